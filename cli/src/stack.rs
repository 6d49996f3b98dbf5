//! The whole stack in one process: model server, sidecar, analysis worker and gateway, wired as in a cluster.
//!
//! Every part is bound before any of them serves; when one cannot be, nothing is left listening. They leave front to
//! back, so that a part can still reach whatever it needs.

mod models;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use plumbline_service::config::{Common, Outcome, Reader, Setting, load};
use plumbline_service::{BindError, Part, Process, StartError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use self::models::ModelDir;

const GATEWAY: Part = part("gateway");
const SIDECAR: Part = part("sidecar");
const MODEL_SERVER: Part = part("model-server");
const WORKER: Part = part("analysis-worker");

/// The parts of this process have its version.
const fn part(name: &'static str) -> Part {
    Part {
        name,
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// Arguments of the commands that run the stack.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StackArgs {
    /// Models: an .onnx file, a directory with one, or NAME=PATH. The name is otherwise the directory's, or the
    /// file's. A profile.json beside the model is what its traffic is compared with.
    #[arg(value_name = "MODEL_DIR", required = true)]
    models: Vec<ModelDir>,
    /// Reports, spooled events and logs.
    #[arg(long, value_name = "DIR", default_value = ".plumbline")]
    state_dir: PathBuf,
    /// Added to every port: gateway 8080, sidecar 8081, model server 8082, worker 8090, admin ports 9901 to 9904.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=55_000))]
    port_offset: u16,
    /// A free port for each instead.
    #[arg(long, conflicts_with = "port_offset")]
    any_port: bool,
    /// What goes into the log file: a level, or levels by module.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

impl StackArgs {
    /// Where state is kept.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The file that the parts log to.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.state_dir.join("plumbline.log")
    }

    /// What is logged.
    pub(crate) fn log_filter(&self) -> &str {
        &self.log
    }

    /// Makes the state directory.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        let dir = &self.state_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
    }

    /// Keeps the state in a directory of its own below the given one.
    pub(crate) fn enter(&mut self, directory: &str) {
        self.state_dir.push(directory);
    }

    /// Removes what an earlier run left: what this program writes and nothing else.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        let files = [
            "worker.db",
            "worker.db-shm",
            "worker.db-wal",
            "worker.db.lock",
            "plumbline.log",
        ];
        let directories = ["events", "alerting"];
        let remove = |path: PathBuf, how: fn(&Path) -> std::io::Result<()>| match how(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        };
        files
            .iter()
            .try_for_each(|file| remove(self.state_dir.join(file), |path| std::fs::remove_file(path)))?;
        directories
            .iter()
            .try_for_each(|dir| remove(self.state_dir.join(dir), |path| std::fs::remove_dir_all(path)))
    }

    /// `port` on loopback with the offset, or any.
    fn address(&self, port: u16) -> SocketAddr {
        let port = if self.any_port { 0 } else { port + self.port_offset };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// How alerts get from the sidecar to the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alerts {
    /// The sidecar sends its drift events.
    Direct,
    /// The sidecar only has metrics; this Prometheus finds the alerts in them.
    Prometheus(SocketAddr),
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) gateway: SocketAddr,
    pub(crate) worker: SocketAddr,
    /// Part and admin port, front to back.
    pub(crate) admin: [(&'static str, SocketAddr); 4],
}

impl Addresses {
    /// The sidecar's admin port, where `/drift` is.
    pub(crate) fn sidecar_admin(&self) -> SocketAddr {
        self.admin[1].1
    }
}

/// The running stack. Dropping it stops it without draining.
pub(crate) struct Stack {
    pub(crate) models: Vec<String>,
    /// Those of them without a profile.
    pub(crate) unwatched: Vec<String>,
    pub(crate) addresses: Addresses,
    /// Front to back: the order of leaving.
    parts: Vec<Running>,
}

struct Running {
    process: Process,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stack {
    /// Starts everything and returns when every part is ready.
    ///
    /// # Errors
    /// The first part that cannot start, with its reason; nothing is left listening then.
    pub(crate) async fn start(args: &StackArgs, alerts: Alerts) -> anyhow::Result<Self> {
        let started = Self::start_parts(args, alerts).await;
        started.map_err(|error| {
            let is_of_port = |cause: &(dyn std::error::Error + 'static)| {
                cause.is::<BindError>() || matches!(cause.downcast_ref(), Some(StartError::Bind(_)))
            };
            if error.chain().any(is_of_port) {
                anyhow::anyhow!(
                    "{}\n  --any-port and --port-offset N take other ports",
                    plumbline_service::error_chain(&*error)
                )
            } else {
                error
            }
        })
    }

    async fn start_parts(args: &StackArgs, alerts: Alerts) -> anyhow::Result<Self> {
        use plumbline_analysis_worker as worker;
        use plumbline_gateway as gateway;
        use plumbline_model_server as model_server;
        use plumbline_sidecar as sidecar;

        let plan = Plan::new(args, alerts)?;
        let (config, server) = begin(
            MODEL_SERVER,
            model_server::SETTINGS,
            plan.model_server(),
            model_server::Config::read,
        )?;
        let server_app = model_server::App::bind(config, &server)
            .await
            .context(MODEL_SERVER.name)?;

        // Sidecar and worker have to know each other's ports. The sidecar's admin port opens before the worker, its
        // data port after; only its `/config` does not tell a worker whose port was not known yet.
        let flags = plan.sidecar(server_app.address(), args.address(9902), args.address(8090));
        let (_, side) = begin(SIDECAR, sidecar::SETTINGS, flags, sidecar::Config::read)?;
        let admin = side.admin_address();
        let (config, work) = begin(WORKER, worker::SETTINGS, plan.worker(admin), worker::Config::read)?;
        let worker_app = worker::App::bind(config, &work).await.context(WORKER.name)?;
        let flags = plan.sidecar(server_app.address(), admin, worker_app.address());
        let (_, config, _) = configure(SIDECAR, sidecar::SETTINGS, flags, sidecar::Config::read)?;
        let sidecar_app = sidecar::App::bind(config, &side).await.context(SIDECAR.name)?;

        let flags = plan.gateway(sidecar_app.address());
        let (config, gate) = begin(GATEWAY, gateway::SETTINGS, flags, gateway::Config::read)?;
        let gateway_app = gateway::App::bind(config, &gate).context(GATEWAY.name)?;

        let addresses = Addresses {
            gateway: gateway_app.address(),
            worker: worker_app.address(),
            admin: [&gate, &side, &server, &work]
                .map(|process| (process.part().name, process.admin_address())),
        };
        let mut stack = Self {
            unwatched: plan.unwatched(),
            models: plan.models.into_iter().map(|model| model.name).collect(),
            addresses,
            parts: vec![
                Running {
                    process: gate,
                    serving: tokio::spawn(gateway_app.serve()),
                },
                Running {
                    process: side,
                    serving: tokio::spawn(sidecar_app.serve()),
                },
                Running {
                    process: server,
                    serving: tokio::spawn(server_app.serve()),
                },
                Running {
                    process: work,
                    serving: tokio::spawn(worker_app.serve()),
                },
            ],
        };
        stack.ready().await?;
        Ok(stack)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        const TIMEOUT: Duration = Duration::from_mins(1);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if self.check().is_err() {
                return Err(self.failed().await);
            }
            let Some(waiting) = self
                .parts
                .iter()
                .find(|part| !part.process.readiness().is_ready())
            else {
                return Ok(());
            };
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} is not ready after {TIMEOUT:?}: {}",
                waiting.process.part().name,
                waiting.process.readiness().pending().join(", ")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An error as soon as a part has ended by itself.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let ended = self.parts.iter().find(|part| part.serving.is_finished());
        match ended {
            Some(part) => anyhow::bail!("{} has ended; the log says why", part.process.part().name),
            None => Ok(()),
        }
    }

    /// Resolves when a part ends by itself, which none should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let (outcome, index) = {
            let waiting = self.parts.iter_mut().map(|part| &mut part.serving);
            first(waiting.collect()).await
        };
        let ended = self.parts.remove(index);
        let name = ended.process.part().name;
        match outcome {
            Ok(Ok(())) => anyhow::anyhow!("{name} has ended by itself"),
            Ok(Err(error)) => error.context(format!("{name} has failed")),
            Err(error) => anyhow::Error::new(error).context(format!("{name} has failed")),
        }
    }

    /// Drains front to back: each part finishes what it has before the next stops listening.
    pub(crate) async fn stop(mut self) {
        for mut part in self.parts.drain(..) {
            let name = part.process.part().name;
            part.process.shutdown().begin_now();
            // A part enforces its own timeout; this one is for a part that does not.
            let patience = part.process.shutdown().drain_timeout() + Duration::from_secs(5);
            match tokio::time::timeout(patience, &mut part.serving).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    tracing::warn!(error = %format!("{error:#}"), part = name, "drain failed");
                }
                Ok(Err(error)) => tracing::warn!(%error, part = name, "drain failed"),
                Err(_) => tracing::warn!(part = name, "not drained in time"),
            }
        }
    }
}

/// The first task to end, with its position.
async fn first<T>(tasks: Vec<&mut JoinHandle<T>>) -> (Result<T, tokio::task::JoinError>, usize) {
    let mut tasks = tasks;
    std::future::poll_fn(|context| {
        for (index, task) in tasks.iter_mut().enumerate() {
            if let std::task::Poll::Ready(outcome) = std::pin::Pin::new(&mut **task).poll(context) {
                return std::task::Poll::Ready((outcome, index));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Which models are served, and with which flags each part starts.
struct Plan<'a> {
    args: &'a StackArgs,
    alerts: Alerts,
    models: Vec<models::Model>,
}

impl<'a> Plan<'a> {
    fn new(args: &'a StackArgs, alerts: Alerts) -> anyhow::Result<Self> {
        let models: Vec<models::Model> = args
            .models
            .iter()
            .map(ModelDir::resolve)
            .collect::<Result<_, _>>()?;
        models::check_names(&models)?;
        Ok(Self { args, alerts, models })
    }

    fn unwatched(&self) -> Vec<String> {
        let models = self.models.iter().filter(|model| model.profile.is_none());
        models.map(|model| model.name.clone()).collect()
    }

    fn model_server(&self) -> Flags {
        let mut flags = Flags::new(self.args.address(8082), self.args.address(9903));
        for model in &self.models {
            flags.add("model", format!("{}={}", model.name, model.path.display()));
        }
        flags
    }

    /// `worker` with port 0 is not known yet.
    fn sidecar(&self, upstream: SocketAddr, admin: SocketAddr, worker: SocketAddr) -> Flags {
        let mut flags = Flags::new(self.args.address(8081), admin);
        flags.add("upstream", format!("http://{upstream}"));
        // Without a profile it would search the place of a pod.
        flags.add("model-dir", self.args.state_dir.join("no-models").display());
        for model in &self.models {
            if let Some(profile) = &model.profile {
                flags.add("profile", format!("{}={}", model.name, profile.display()));
            }
        }
        if matches!(self.alerts, Alerts::Direct) && worker.port() != 0 {
            flags.add("events-to", format!("http://{worker}"));
            flags.add("spool-dir", self.args.state_dir.join("events").display());
        }
        flags
    }

    fn worker(&self, sidecar_admin: SocketAddr) -> Flags {
        let mut flags = Flags::new(self.args.address(8090), self.args.address(9904));
        flags.add("store", self.args.state_dir.join("worker.db").display());
        flags.add("logs", self.args.log_file().display());
        for model in &self.models {
            flags.add("sidecar", format!("{}=http://{sidecar_admin}", model.name));
        }
        if let Alerts::Prometheus(address) = self.alerts {
            flags.add("prometheus", format!("http://{address}"));
        }
        flags
    }

    fn gateway(&self, sidecar: SocketAddr) -> Flags {
        let mut flags = Flags::new(self.args.address(8080), self.args.address(9901));
        for model in &self.models {
            flags.add("route", format!("{}=http://{sidecar}", model.name));
        }
        flags
    }
}

/// Flags of one part, as its own program would get them.
struct Flags(Vec<String>);

impl Flags {
    fn new(listen: SocketAddr, admin: SocketAddr) -> Self {
        let mut flags = Self(Vec::new());
        flags.add("listen", listen);
        flags.add("admin-listen", admin);
        // No load balancer has to notice.
        flags.add("drain-delay", "0s");
        flags
    }

    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(format!("--{name}={value}"));
    }
}

/// Reads a part's configuration and opens its admin port.
fn begin<C>(
    part: Part,
    settings: &[Setting],
    flags: Flags,
    read: impl FnOnce(&mut Reader) -> (Common, C),
) -> anyhow::Result<(C, Process)> {
    let (common, config, shown) = configure(part, settings, flags, read)?;
    let process = Process::start(part, &common, shown).context(part.name)?;
    Ok((config, process))
}

/// A part's configuration: its flags here, its variables in the environment.
fn configure<C>(
    part: Part,
    settings: &[Setting],
    flags: Flags,
    read: impl FnOnce(&mut Reader) -> (Common, C),
) -> anyhow::Result<(Common, C, serde_json::Value)> {
    // Flags set what the defaults here would.
    let common = Common::settings("127.0.0.1:0", "127.0.0.1:0");
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match load(part.name, &[&common, settings], flags.0, environment, read)? {
        Outcome::Start {
            config: (common, config),
            shown,
        } => Ok((common, config, shown)),
        // From the environment: PLUMBLINE_<PART>_CHECK_CONFIG.
        Outcome::Valid | Outcome::Help(_) | Outcome::Version => {
            anyhow::bail!("{}: its environment asks it not to start", part.name)
        }
    }
}
