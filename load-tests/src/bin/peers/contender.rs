//! Who takes part: how each is started, where it listens, and what it speaks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use plumbline_load_tests::process::{Server, free_port, on_cpus, proportional_memory, resident_memory};
use plumbline_load_tests::request::Encoding;

use crate::measure::Cell;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The constant-answer hyper server.
    Constant,
    /// Ours.
    Plumbline,
    /// Ours, told not to batch: for what batching is worth.
    Unbatched,
    /// A custom predictor of the KServe Python SDK.
    Kserve,
    /// `MLServer` with the model in its own process.
    Mlserver,
    /// `MLServer` as it comes: the model in a process of its own.
    MlserverDefault,
    /// `FastAPI` with pydantic models.
    Fastapi,
    /// Starlette with orjson and nothing else.
    Starlette,
}

impl Kind {
    /// All, ours right behind the floor.
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Constant,
        Kind::Plumbline,
        Kind::Unbatched,
        Kind::Starlette,
        Kind::Fastapi,
        Kind::Kserve,
        Kind::Mlserver,
        Kind::MlserverDefault,
    ];

    /// As the tables have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Kind::Constant => "constant-answer hyper server",
            Kind::Plumbline => "plumbline-model-server",
            Kind::Unbatched => "the same, batching off",
            Kind::Kserve => "KServe Python SDK",
            Kind::Mlserver => "MLServer, parallel_workers 0",
            Kind::MlserverDefault => "MLServer, parallel_workers 1 (its default)",
            Kind::Fastapi => "FastAPI + uvicorn",
            Kind::Starlette => "Starlette + orjson + uvicorn",
        }
    }

    /// Whether it is measured in this cell.
    pub(crate) fn takes_part(self, cell: Cell) -> bool {
        let encoding = cell.encoding;
        match self {
            Kind::Unbatched => {
                matches!(encoding, Encoding::V2 | Encoding::Grpc) && cell.rows == 1 && cell.connections > 1
            }
            Kind::Constant => encoding == Encoding::V2 || encoding == Encoding::Grpc,
            Kind::Plumbline | Kind::Kserve => true,
            Kind::Mlserver | Kind::MlserverDefault => matches!(encoding, Encoding::V2 | Encoding::Grpc),
            Kind::Fastapi | Kind::Starlette => matches!(encoding, Encoding::V2 | Encoding::V1),
        }
    }
}

/// Where programs and models are, and which CPUs the servers get.
pub(crate) struct Place {
    pub(crate) programs: PathBuf,
    pub(crate) peers: PathBuf,
    pub(crate) setup: PathBuf,
    pub(crate) server_cpus: Option<String>,
}

/// A contender that is up.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) server: Server,
    grpc: SocketAddr,
    /// From the start of the process to the first answer that it is ready.
    pub(crate) ready: Duration,
    /// PSS before the first request, bytes.
    pub(crate) idle_memory: u64,
    /// RSS before the first request, bytes.
    pub(crate) idle_resident: u64,
}

impl Running {
    /// Starts it with `model`, a `NAME/model.onnx`, and waits until it is ready.
    pub(crate) fn start(kind: Kind, model: &Path, place: &Place) -> anyhow::Result<Running> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (http, grpc) = (loopback(free_port()?), loopback(free_port()?));
        let cpus = place.server_cpus.as_deref();
        // Read until it is ready, not after.
        let aside = tempfile::tempdir()?;
        let python = |peer: &str, arguments: &[String]| -> anyhow::Result<Server> {
            let program = std::path::absolute(place.setup.join(peer).join("bin/python"))?;
            let mut command: Command = on_cpus(&program, cpus);
            command
                .args(arguments)
                .current_dir(&place.peers)
                .env("MODEL_FILE", std::path::absolute(model)?)
                .env("PYTHONPATH", std::path::absolute(&place.peers)?)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            Server::start_at(command, http)
        };
        let text = |texts: &[&str]| -> Vec<String> { texts.iter().map(ToString::to_string).collect() };
        let (http_port, grpc_port) = (http.port().to_string(), grpc.port().to_string());
        let uvicorn = |app: &str| {
            text(&[
                "-m",
                "uvicorn",
                app,
                "--port",
                &http_port,
                "--loop",
                "uvloop",
                "--http",
                "httptools",
                "--no-access-log",
                "--log-level",
                "warning",
            ])
        };
        let mlserver = |workers| text(&["mlserver_runtime.py", &http_port, &grpc_port, workers]);
        let mut server = match kind {
            Kind::Constant => Server::start(&place.programs.join("constant-server"), &[], cpus)?,
            Kind::Plumbline | Kind::Unbatched => {
                let model = model.parent().context("a directory")?;
                let name = model.file_name().context("a name")?;
                let model = if kind == Kind::Unbatched {
                    let copy = aside.path().join(name);
                    std::fs::create_dir(&copy)?;
                    std::fs::copy(model.join("model.onnx"), copy.join("model.onnx"))?;
                    std::fs::write(copy.join("model.toml"), "[batching]\nenabled = false\n")?;
                    copy
                } else {
                    model.to_owned()
                };
                Server::start(
                    &place.programs.join("plumbline-model-server"),
                    &text(&["--model", model.to_str().context("a path that is text")?]),
                    cpus,
                )?
            }
            Kind::Kserve => python(
                "peer-kserve",
                &text(&[
                    "kserve_server.py",
                    "--http_port",
                    &http_port,
                    "--grpc_port",
                    &grpc_port,
                ]),
            )?,
            Kind::Mlserver => python("peer-mlserver", &mlserver("0"))?,
            Kind::MlserverDefault => python("peer-mlserver", &mlserver("1"))?,
            Kind::Fastapi => python("peer-asgi", &uvicorn("fastapi_app:app"))?,
            Kind::Starlette => python("peer-asgi", &uvicorn("starlette_app:app"))?,
        };
        let ready = server
            .wait_until_ready("/v2/health/ready")
            .with_context(|| kind.label())?;
        let grpc = match kind {
            Kind::Constant | Kind::Plumbline | Kind::Unbatched => server.address(),
            _ => grpc,
        };
        Ok(Running {
            kind,
            grpc,
            ready,
            idle_memory: proportional_memory(server.pid())?,
            idle_resident: resident_memory(server.pid())?,
            server,
        })
    }

    /// Where requests of this encoding go.
    pub(crate) fn address(&self, encoding: Encoding) -> SocketAddr {
        if encoding == Encoding::Grpc {
            self.grpc
        } else {
            self.server.address()
        }
    }
}
