//! What stands between the generator and the constant-answer server.

use std::net::SocketAddr;
use std::path::Path;

use plumbline_load_tests::client::Http;
use plumbline_load_tests::process::{Server, free_addresses};
use plumbline_load_tests::proxy::{Contender, NGINX_ARGUMENTS, Settings, Template};
use plumbline_load_tests::scrape;
use plumbline_load_tests::traffic::Cell;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Name {
    /// Nothing.
    Direct,
    /// nginx as a plain proxy.
    Nginx,
    /// The sidecar, forwarding only.
    Off,
    /// The sidecar with a reference profile that matches the traffic.
    On,
}

impl Name {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Nginx, Self::Off, Self::On];

    /// As the tables have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Name::Direct => "direct",
            Name::Nginx => "nginx, plain proxy",
            Name::Off => "sidecar, analysis off",
            Name::On => "sidecar, analysis on",
        }
    }
}

/// A sidecar in front of `upstream`, with its analysis `on` or `off`.
pub(crate) fn sidecar(
    settings: &Settings,
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
    let program = settings.program("plumbline-sidecar");
    let mut server = Server::start(&program, &flags, settings.server_cpus())?;
    server.wait_until_ready("/v2/health/ready")?;
    Ok(server)
}

/// A contender that is up.
pub(crate) struct Running {
    pub(crate) name: Name,
    server: Option<Server>,
    http1: SocketAddr,
    http2: SocketAddr,
    /// nginx's files.
    _configuration: Option<Template>,
}

impl Running {
    pub(crate) fn start(
        name: Name,
        settings: &Settings,
        nginx: &Path,
        upstream: SocketAddr,
        profiles: &[String],
    ) -> anyhow::Result<Self> {
        let one = |server: Server| Self {
            name,
            http1: server.address(),
            http2: server.address(),
            server: Some(server),
            _configuration: None,
        };
        Ok(match name {
            Name::Direct => Self {
                name,
                server: None,
                http1: upstream,
                http2: upstream,
                _configuration: None,
            },
            Name::Nginx => self::nginx(settings, nginx, upstream)?,
            Name::Off => one(sidecar(settings, upstream, "off", profiles)?),
            Name::On => one(sidecar(settings, upstream, "on", profiles)?),
        })
    }
}

impl Contender for Running {
    fn label(&self) -> &'static str {
        self.name.label()
    }

    fn addresses(&self, cell: Cell) -> Vec<SocketAddr> {
        vec![match cell.http() {
            Http::One => self.http1,
            Http::Two => self.http2,
        }]
    }

    fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    fn log(&self) -> String {
        self.server.as_ref().map_or_else(String::new, Server::log)
    }

    /// None without an analysis.
    fn rows(&self) -> anyhow::Result<(f64, f64)> {
        let Some(server) = self.server.as_ref().filter(|_| self.name == Name::On) else {
            return Ok((0.0, 0.0));
        };
        let text = scrape::metrics(server.admin()?)?;
        let total = |name| scrape::total(&text, name, &[]);
        Ok((
            total("plumbline_rows_observed_total"),
            total("plumbline_rows_skipped_total"),
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx would start a worker that was killed again; it is to end them itself.
        if let Some(server) = &mut self.server {
            server.end();
        }
    }
}

fn nginx(settings: &Settings, program: &Path, upstream: SocketAddr) -> anyhow::Result<Running> {
    let [http1, http2, grpc] = free_addresses()?;
    let values = [
        ("SERVERS", format!("server {upstream};")),
        ("HTTP1", http1.to_string()),
        ("HTTP2", http2.to_string()),
        ("GRPC", grpc.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let configuration = Template::fill(settings, "nginx.conf", &values)?;
    Ok(Running {
        name: Name::Nginx,
        server: Some(configuration.start(settings, program, NGINX_ARGUMENTS, http1)?),
        http1,
        // Of the sidecar's cells only gRPC comes over HTTP/2.
        http2: grpc,
        _configuration: Some(configuration),
    })
}
