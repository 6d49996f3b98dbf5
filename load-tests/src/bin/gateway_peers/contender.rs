//! What stands between the generator and the constant-answer servers.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use plumbline_load_tests::process::{Server, free_addresses};
use plumbline_load_tests::proxy::{Contender, NGINX_ARGUMENTS, Settings, Template};
use plumbline_load_tests::traffic::Cell;

/// Sent by everybody's clients, so that all get the same bytes; only the gateway looks at it.
pub(crate) const KEY: &str = "nobody-guesses-this-key-of-32-bytes";

/// [`KEY`] as the gateway's file has it: its SHA-256.
const KEYS: &str = "[[key]]\nprincipal = \"peers\"\nhash = \"sha256:9160cde12e63eb3cbc33b08f7aaa5036a677e5e8d2dda0c36d4c936397488a55\"\n";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Name {
    /// Nothing.
    Direct,
    /// nginx.
    Nginx,
    /// haproxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// The gateway with keys, a policy, metrics and balancing.
    Gateway,
}

impl Name {
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Gateway,
    ];

    /// As the tables have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Name::Direct => "direct",
            Name::Nginx => "nginx",
            Name::Haproxy => "haproxy",
            Name::Envoy => "Envoy",
            Name::Gateway => "gateway",
        }
    }
}

/// Where the peers' programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// nginx.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// haproxy.
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
    /// Envoy.
    #[arg(long, default_value = ".setup/envoy/envoy")]
    envoy: PathBuf,
}

/// A contender that is up.
pub(crate) struct Running {
    name: Name,
    server: Option<Server>,
    http1: Vec<SocketAddr>,
    http2: Vec<SocketAddr>,
    grpc: Vec<SocketAddr>,
    /// Its configuration.
    _files: Vec<Template>,
}

impl Running {
    /// Starts it in front of two `endpoints`.
    pub(crate) fn start(
        name: Name,
        settings: &Settings,
        programs: &Programs,
        endpoints: [SocketAddr; 2],
    ) -> anyhow::Result<Self> {
        if name == Name::Direct {
            return Ok(Self {
                name,
                server: None,
                http1: endpoints.to_vec(),
                http2: endpoints.to_vec(),
                grpc: endpoints.to_vec(),
                _files: Vec::new(),
            });
        }
        if name == Name::Gateway {
            return gateway(settings, endpoints);
        }
        let [http1, http2, grpc] = free_addresses()?;
        let own = [("HTTP1", http1), ("HTTP2", http2), ("GRPC", grpc)];
        let [one, two] = endpoints;
        let (file, program, arguments, values): (_, _, &[&str], Vec<(String, String)>) = match name {
            Name::Nginx => (
                "nginx.conf",
                &programs.nginx,
                NGINX_ARGUMENTS,
                vec![("SERVERS".to_owned(), format!("server {one}; server {two};"))],
            ),
            Name::Haproxy => (
                "haproxy.cfg",
                &programs.haproxy,
                &["-db", "-f", "FILE"],
                vec![
                    ("SERVER1".to_owned(), one.to_string()),
                    ("SERVER2".to_owned(), two.to_string()),
                ],
            ),
            _ => (
                "envoy.yaml",
                &programs.envoy,
                &[
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "-l",
                    "warn",
                    "-c",
                    "FILE",
                ],
                vec![
                    ("SERVER1_PORT".to_owned(), one.port().to_string()),
                    ("SERVER2_PORT".to_owned(), two.port().to_string()),
                ],
            ),
        };
        let own = own.iter().map(|(key, address)| match name {
            Name::Envoy => (format!("{key}_PORT"), address.port().to_string()),
            _ => ((*key).to_owned(), address.to_string()),
        });
        let values: Vec<_> = values.into_iter().chain(own).collect();
        let configuration = Template::fill(settings, file, &values)?;
        Ok(Self {
            name,
            server: Some(configuration.start(settings, program, arguments, http1)?),
            http1: vec![http1],
            http2: vec![http2],
            grpc: vec![grpc],
            _files: vec![configuration],
        })
    }
}

/// All of its protocols come to one port.
fn gateway(settings: &Settings, endpoints: [SocketAddr; 2]) -> anyhow::Result<Running> {
    let keys = Template::of_text("keys.toml", KEYS)?;
    let endpoints = endpoints
        .map(|endpoint| format!("\"http://{endpoint}\""))
        .join(", ");
    let values = [
        ("KEYS".to_owned(), keys.file()?.to_owned()),
        ("ENDPOINTS".to_owned(), endpoints),
    ];
    let configuration = Template::fill(settings, "gateway.toml", &values)?;
    let server = start_gateway(settings, &["--config", configuration.file()?])?;
    let address = vec![server.address()];
    Ok(Running {
        name: Name::Gateway,
        server: Some(server),
        http1: address.clone(),
        http2: address.clone(),
        grpc: address,
        _files: vec![keys, configuration],
    })
}

/// A gateway that is ready.
pub(crate) fn start_gateway(settings: &Settings, flags: &[&str]) -> anyhow::Result<Server> {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let program = settings.program("plumbline-gateway");
    let mut server = Server::start(&program, &flags, settings.server_cpus())?;
    server
        .wait_until_ready("/v2/health/ready")
        .context("the gateway")?;
    Ok(server)
}

impl Contender for Running {
    fn label(&self) -> &'static str {
        self.name.label()
    }

    fn addresses(&self, cell: Cell) -> Vec<SocketAddr> {
        match cell {
            Cell::SmallJson | Cell::WideJson | Cell::WideBinary => self.http1.clone(),
            Cell::SmallJsonHttp2 => self.http2.clone(),
            Cell::SmallGrpc | Cell::WideGrpc => self.grpc.clone(),
        }
    }

    fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    fn log(&self) -> String {
        self.server.as_ref().map_or_else(String::new, Server::log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx would start a worker that was killed again; it is to end them itself.
        if let Some(server) = self.server.as_mut().filter(|_| self.name == Name::Nginx) {
            server.end();
        }
    }
}
