//! The access log: one JSON object a line for each request, written by a thread of its own.
//!
//! A request that ends offers its [`Line`] to a bounded queue and never waits: lines that do not fit are dropped and
//! counted. Successes are logged by share; what is no success always is.

mod line;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use plumbline_service::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{AccessLogSpec, AccessLogTo};
use crate::metrics::AccessLogMetrics;
pub(crate) use line::{Line, Logged, Trail, milliseconds};
use writer::{Sink, Writer};

/// Lines that wait for the writer: a few MB, and tens of milliseconds of what one core can answer.
const MAX_QUEUED_LINES: usize = 4_096;
/// Time for what is queued when the gateway ends: a reader of standard output may have stopped reading.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the writer is told.
enum Message {
    Line(Box<Line>),
    /// Nothing comes any more that has to be written.
    Close,
}

/// Where requests leave their lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Message>,
    sample: f64,
    metrics: AccessLogMetrics,
}

/// The thread that writes, to be waited for.
#[derive(Debug)]
pub(crate) struct Writing {
    log: Arc<AccessLog>,
    thread: std::thread::JoinHandle<()>,
}

impl AccessLog {
    /// Opens the file and starts the thread; nothing when there is to be no such log. A file is opened anew on SIGHUP,
    /// with the next line. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file cannot be written to.
    pub(crate) fn start(
        spec: &AccessLogSpec,
        metrics: AccessLogMetrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Option<Writing>> {
        let (sink, reopen) = match &spec.to {
            AccessLogTo::Off => return Ok(None),
            AccessLogTo::Stdout => (Sink::Stdout, None),
            AccessLogTo::File(path) => {
                let sink = Sink::open(path);
                let sink =
                    sink.with_context(|| format!("cannot write to {} (access_log)", path.display()))?;
                (sink, Some(Arc::new(AtomicBool::new(false))))
            }
        };
        if let Some(reopen) = &reopen {
            let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be watched (access_log)")?;
            let (reopen, shutdown) = (Arc::clone(reopen), shutdown.clone());
            tokio::spawn(async move {
                let told = async {
                    while hangup.recv().await.is_some() {
                        reopen.store(true, Ordering::Relaxed);
                    }
                };
                tokio::select! { () = told => {}, () = shutdown.stop_accepting() => {} }
            });
        }
        let (sender, lines) = sync_channel(MAX_QUEUED_LINES);
        let mut writer = Writer::new(lines, sink, reopen, metrics.clone());
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let thread = thread
            .spawn(move || writer.run())
            .context("cannot start the access log's thread")?;
        let log = Arc::new(Self {
            lines: sender,
            sample: spec.sample,
            metrics,
        });
        Ok(Some(Writing { log, thread }))
    }

    /// Whether a request that ended in a success is among those that are told of.
    fn samples(&self) -> bool {
        self.sample >= 1.0 || fastrand::f64() < self.sample
    }

    /// Leaves a line to be written, or drops it.
    fn offer(&self, line: Box<Line>) {
        match self.lines.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.queue_full.inc(),
            Err(TrySendError::Disconnected(_)) => self.metrics.write_failed.inc(),
        }
    }
}

impl Writing {
    /// Where requests leave their lines.
    pub(crate) fn log(&self) -> Arc<AccessLog> {
        Arc::clone(&self.log)
    }

    /// Waits until what is queued is written; bounded.
    pub(crate) async fn close(self) {
        let closing = tokio::task::spawn_blocking(move || {
            // Waits for room behind the last lines.
            let _ended_already = self.log.lines.send(Message::Close);
            self.thread.join()
        });
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_panicked) => tracing::error!("the access log has ended early"),
            Err(_elapsed) => {
                tracing::warn!(timeout = ?CLOSE_TIMEOUT, "the access log is not written to its end");
            }
        }
    }
}
