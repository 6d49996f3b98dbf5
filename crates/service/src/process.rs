//! From flags to a running part to an exit code.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::Admin;
use crate::config::{Common, Outcome, Reader, Setting, load};
use crate::handover::{Handover, HandoverError};
use crate::metrics::Metrics;
use crate::serve::{BindError, Listener, ServeOptions};
use crate::traces::{TraceError, Tracer};
use crate::{Cpus, Readiness, ReadinessToken, Shutdown, error_chain, telemetry};

/// Exit status for a configuration with problems.
const EXIT_CONFIGURATION: u8 = 2;

/// Which program this is.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// `gateway`, `sidecar`, `model-server`, `analysis-worker`.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
}

/// What a part gets from the process it lives in. Cloned freely.
#[derive(Clone, Debug)]
pub struct Process {
    part: Part,
    metrics: Metrics,
    readiness: Readiness,
    /// Until the part has opened its ports.
    starting: Arc<Mutex<Option<ReadinessToken>>>,
    shutdown: Shutdown,
    admin: Admin,
    handover: Handover,
    tracer: Tracer,
    serve_options: ServeOptions,
}

/// Why a process cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The ports of the process before cannot be had.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// Spans cannot be exported.
    #[error(transparent)]
    Traces(#[from] TraceError),
}

impl Process {
    /// Sets up what a part needs and opens its admin port, or takes it over. `shown` is what `/config` answers.
    /// The process is not ready before [`Process::started`].
    ///
    /// [`run`] calls this once; `plumbline up` and tests call it once for each part.
    ///
    /// # Errors
    /// The admin port cannot be opened, or the process before does not give it.
    pub fn start(part: Part, common: &Common, shown: serde_json::Value) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        metrics.register_process(part.name, part.version);
        let readiness = Readiness::default();
        let starting = readiness.wait_for("starting");
        let shutdown = Shutdown::new(readiness.clone(), common.drain_delay, common.drain_timeout);
        let admin = Admin::new(part, metrics.clone(), readiness.clone(), shown);
        let handover = Handover::begin(common.handover.as_deref())?;
        let serve_options = ServeOptions {
            client_write_timeout: common.client_write_timeout,
            client_write_timeouts: metrics.counter(
                "plumbline_client_write_timeouts_total",
                "Clients that took nothing of an answer for the client write timeout.",
            ),
            ..ServeOptions::default()
        };
        let traces = common.traces.as_ref();
        let tracer = traces.map(|traces| Tracer::start(traces, part, &metrics));
        let tracer = tracer.transpose()?.unwrap_or_default();
        admin.spawn(common.admin_listen, &handover, &shutdown)?;
        Ok(Self {
            part,
            metrics,
            readiness,
            starting: Arc::new(Mutex::new(Some(starting))),
            shutdown,
            admin,
            handover,
            tracer,
            serve_options,
        })
    }

    /// The part's ports are open: only what it has asked readiness to wait for keeps it unready now.
    pub fn started(&self) {
        drop(
            self.starting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Binds a data port, or takes it over from the process before; `setting` has its address. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], naming the address, the setting and what to do about it.
    pub fn listen(&self, address: SocketAddr, setting: &'static str) -> Result<Listener, BindError> {
        let listener = self.handover.listener(address, setting)?;
        Listener::from_std(listener, address, setting)
    }

    /// Waits until this process may serve: at once, or, where it takes over from another, when it is ready. The one
    /// before then leaves, and the next may take over. For parts with the setting `handover`, after all ports are bound.
    ///
    /// False when shutdown has begun before that: the process before goes on, and this one must not serve.
    ///
    /// # Errors
    /// The process before is gone, or the next could not find this one.
    pub async fn take_over(&self) -> Result<bool, HandoverError> {
        self.handover.take_over(&self.readiness, &self.shutdown).await
    }

    /// Which program this is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Where the part declares its series.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether requests should be sent here.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// When and how to leave.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The admin port's pages.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// How a data port treats its connections, as far as every part has it from its settings.
    pub fn serve_options(&self) -> ServeOptions {
        self.serve_options.clone()
    }

    /// Where spans begin.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Where the admin port listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }
}

/// Runs a part as a program: configuration, logging, admin port, `app`, drain on SIGTERM or Ctrl-C.
///
/// `arguments` are without the program's name. `app` returns when it has drained; an error that it returns is printed
/// with its causes. Exit status: 0 after a drain, 1 after an error, 2 for a configuration with problems.
pub fn run<C, F>(
    part: Part,
    settings: &[&[Setting]],
    arguments: impl IntoIterator<Item = String>,
    read: impl FnOnce(&mut Reader) -> (Common, C),
    app: impl FnOnce(C, Process) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let (common, config, shown) = match load(part.name, settings, arguments, std::env::vars(), read) {
        Ok(Outcome::Start {
            config: (common, config),
            shown,
        }) => (common, config, shown),
        Ok(Outcome::Valid) => return say(&format!("{}: the configuration is valid\n", part.name)),
        Ok(Outcome::Help(text)) => return say(&text),
        Ok(Outcome::Version) => return say(&format!("plumbline-{} {}\n", part.name, part.version)),
        Err(problems) => return fail(EXIT_CONFIGURATION, &problems.to_string()),
    };
    if let Err(problem) = telemetry::init(&common.log, common.log_format) {
        return fail(
            EXIT_CONFIGURATION,
            &format!("{}: 1 problem in the configuration\n  {problem}", part.name),
        );
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(Cpus::of_process().threads.get())
        .enable_all();
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("{}: cannot start threads: {error}", part.name)),
    };
    let outcome = runtime.block_on(async {
        let process = Process::start(part, &common, shown)?;
        let signals = tokio::spawn(watch_signals(process.shutdown.clone()));
        let (tracer, handover) = (process.tracer.clone(), process.handover.clone());
        let outcome = app(config, process).await;
        tracer.finish().await;
        handover.end();
        signals.abort();
        outcome
    });
    // Blocking threads (a model run, a disk write) must not hold the process once everything has drained.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{}: {}", part.name, error_chain(&*error))),
    }
}

async fn watch_signals(shutdown: Shutdown) {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be watched; the process will not drain");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {
            tracing::info!(signal = "SIGTERM", "shutting down");
            tokio::select! {
                () = shutdown.begin() => {}
                // Somebody is waiting: skip the delay.
                _ = interrupt.recv() => shutdown.begin_now(),
            }
        }
        _ = interrupt.recv() => {
            tracing::info!(signal = "SIGINT", "shutting down");
            shutdown.begin_now();
        }
    }
    // Asked again while draining: leave at once, with the status that shells give to an interrupted program.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::process::exit(130);
}

/// Standard output belongs to whoever asked for help; a closed pipe is not an error.
fn say(text: &str) -> ExitCode {
    let _closed_pipe = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(status: u8, text: &str) -> ExitCode {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(status)
}
