//! What stands between the generator and the constant-answer server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use plumbline_load_tests::client::Http;
use plumbline_load_tests::process::{Server, free_port, on_cpus, proportional_memory, resident_memory, tree};
use plumbline_load_tests::scrape;

/// nginx and the sidecar have ended long before.
const END: Duration = Duration::from_secs(5);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Contender {
    /// Nothing.
    Direct,
    /// nginx as a plain proxy.
    Nginx,
    /// The sidecar, forwarding only.
    Off,
    /// The sidecar with a reference profile that matches the traffic.
    On,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Nginx, Self::Off, Self::On];

    /// As the tables have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Nginx => "nginx, plain proxy",
            Contender::Off => "sidecar, analysis off",
            Contender::On => "sidecar, analysis on",
        }
    }
}

/// Where programs are, and the CPUs of everything but the generator.
pub(crate) struct Place {
    pub(crate) programs: PathBuf,
    pub(crate) nginx: PathBuf,
    /// Its settings, with the addresses left open.
    pub(crate) nginx_settings: PathBuf,
    pub(crate) cpus: Option<String>,
}

impl Place {
    pub(crate) fn constant_server(&self) -> anyhow::Result<Server> {
        Server::start(&self.programs.join("constant-server"), &[], self.cpus.as_deref())
    }

    /// A sidecar in front of `upstream`, with its analysis `on` or `off`.
    pub(crate) fn sidecar(
        &self,
        upstream: SocketAddr,
        analysis: &str,
        profiles: &[String],
    ) -> anyhow::Result<Server> {
        let mut flags = vec!["--upstream".to_owned(), format!("http://{upstream}")];
        flags.extend(["--analysis".to_owned(), analysis.to_owned()]);
        flags.extend(["--model-dir".to_owned(), "/nonexistent".to_owned()]);
        for profile in profiles {
            flags.extend(["--profile".to_owned(), profile.clone()]);
        }
        let program = self.programs.join("plumbline-sidecar");
        let mut server = Server::start(&program, &flags, self.cpus.as_deref())?;
        server.wait_until_ready("/v2/health/ready")?;
        Ok(server)
    }
}

/// A contender that is up.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    server: Option<Server>,
    http1: SocketAddr,
    http2: SocketAddr,
    /// nginx's files.
    _directory: Option<tempfile::TempDir>,
}

impl Running {
    pub(crate) fn start(
        contender: Contender,
        place: &Place,
        upstream: SocketAddr,
        profiles: &[String],
    ) -> anyhow::Result<Self> {
        let one = |server: Server| Self {
            contender,
            http1: server.address(),
            http2: server.address(),
            server: Some(server),
            _directory: None,
        };
        Ok(match contender {
            Contender::Direct => Self {
                contender,
                server: None,
                http1: upstream,
                http2: upstream,
                _directory: None,
            },
            Contender::Nginx => nginx(place, upstream)?,
            Contender::Off => one(place.sidecar(upstream, "off", profiles)?),
            Contender::On => one(place.sidecar(upstream, "on", profiles)?),
        })
    }

    /// Where requests of this version of HTTP go.
    pub(crate) fn address(&self, http: Http) -> SocketAddr {
        match http {
            Http::One => self.http1,
            Http::Two => self.http2,
        }
    }

    /// The process whose CPU time counts, with all of its children.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub(crate) fn log(&self) -> String {
        self.server.as_ref().map_or_else(String::new, Server::log)
    }

    /// Rows observed and skipped so far; none without an analysis.
    pub(crate) fn rows(&self) -> anyhow::Result<(f64, f64)> {
        let Some(server) = self.server.as_ref().filter(|_| self.contender == Contender::On) else {
            return Ok((0.0, 0.0));
        };
        let text = scrape::metrics(server.admin()?)?;
        let total = |name| scrape::total(&text, name, &[]);
        Ok((
            total("plumbline_rows_observed_total"),
            total("plumbline_rows_skipped_total"),
        ))
    }

    /// RSS and PSS of all of its processes, bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let Some(pid) = self.pid() else { return Ok((0, 0)) };
        memory(pid)
    }
}

/// RSS and PSS of a process and its children, bytes.
pub(crate) fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let resident = tree(pid).into_iter().map(resident_memory).sum::<Result<_, _>>()?;
    Ok((resident, proportional_memory(pid)?))
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx would start a worker that was killed again; it is to end them itself.
        if let Some(server) = &mut self.server
            && server.terminate().is_ok()
        {
            let _killed_then = server.wait(END);
        }
    }
}

fn nginx(place: &Place, upstream: SocketAddr) -> anyhow::Result<Running> {
    let directory = tempfile::tempdir()?;
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (http1, http2) = (loopback(free_port()?), loopback(free_port()?));
    let file = directory.path().join("nginx.conf");
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path that is text");
    let settings = std::fs::read_to_string(&place.nginx_settings)
        .with_context(|| format!("cannot read {}", place.nginx_settings.display()))?
        .replace("UPSTREAM", &upstream.to_string())
        .replace("HTTP1", &http1.to_string())
        .replace("HTTP2", &http2.to_string())
        .replace("DIRECTORY", &path(directory.path())?);
    std::fs::write(&file, settings)?;
    let mut command = on_cpus(&place.nginx, place.cpus.as_deref());
    command.args([
        "-e",
        "stderr",
        "-c",
        &path(&file)?,
        "-p",
        &path(directory.path())?,
    ]);
    let mut server =
        Server::start_at(command, http1).context("`scripts/require-nginx.sh` says how to get nginx")?;
    server.wait_until_ready("/v2/health/ready")?;
    Ok(Running {
        contender: Contender::Nginx,
        server: Some(server),
        http1,
        http2,
        _directory: Some(directory),
    })
}
