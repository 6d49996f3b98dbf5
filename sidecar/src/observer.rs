//! Observes answered exchanges on a thread of its own: whatever happens here, the answers have gone.

mod analysis;
mod decode;
mod mapping;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

pub(crate) use analysis::{Analysis, Change};
pub(crate) use queue::Queue;

use crate::config::Hook;
use crate::events::Raise;
use crate::metrics::Protocol;
use crate::models::Model;
use crate::observation::{BodyHead, Observing};
use crate::skip::SkipReason;
use crate::tee::Capture;
use queue::Taken;

/// Rest after a batch; exchanges that come meanwhile make the next one.
const REST: Duration = Duration::from_millis(1);
/// How often open windows are looked at when nothing comes.
const TICK: Duration = Duration::from_millis(250);

/// One answered exchange, with what is needed to read its bodies.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) model: Arc<Model>,
    pub(crate) protocol: Protocol,
    pub(crate) request: Capture,
    pub(crate) request_head: BodyHead,
    pub(crate) response: Capture,
    pub(crate) response_head: BodyHead,
}

impl Exchange {
    /// What it costs to keep it.
    fn bytes(&self) -> usize {
        self.request.len() + self.response.len()
    }
}

/// The observer's thread, and how far it has come.
#[derive(Debug)]
pub(crate) struct Observer {
    thread: Option<JoinHandle<()>>,
    observing: Arc<Observing>,
}

/// Runs until the queue is closed and empty.
struct Work {
    observing: Arc<Observing>,
    raise: Raise,
    before_analysis: Option<Hook>,
    /// A window with rows is closed after this time.
    window_time: Duration,
    settled: watch::Sender<u64>,
}

impl Observer {
    /// Starts the thread. `settled` counts the exchanges that it is done with, after their metrics are up to date.
    ///
    /// # Errors
    /// The system's, when there is no thread to have.
    pub(crate) fn spawn(
        observing: &Arc<Observing>,
        raise: Raise,
        window_time: Duration,
        before_analysis: Option<Hook>,
        settled: watch::Sender<u64>,
    ) -> std::io::Result<Self> {
        let work = Work {
            observing: Arc::clone(observing),
            raise,
            before_analysis,
            window_time,
            settled,
        };
        let thread = std::thread::Builder::new()
            .name("sidecar-observer".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            thread: Some(thread),
            observing: Arc::clone(observing),
        })
    }

    /// Lets the observer finish what is queued and waits for that.
    pub(crate) async fn finish(mut self) {
        self.observing.queue.close();
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the observer ended with a panic");
        }
    }
}

/// A sidecar that is dropped without draining leaves no thread behind.
impl Drop for Observer {
    fn drop(&mut self) {
        self.observing.queue.close();
    }
}

impl Work {
    fn run(self) {
        let mut batch = Vec::new();
        loop {
            if self.observing.queue.take(&mut batch, TICK) == Taken::Closed {
                return;
            }
            let taken = batch.len() as u64;
            for exchange in batch.drain(..) {
                self.settle(exchange);
            }
            self.look_at_windows();
            if taken > 0 {
                self.settled.send_modify(|settled| *settled += taken);
                std::thread::sleep(REST);
            }
        }
    }

    /// Observes or skips one exchange; a panic is a reason to skip.
    fn settle(&self, exchange: Exchange) {
        let model = Arc::clone(&exchange.model);
        let observed = catch_unwind(AssertUnwindSafe(|| {
            if let Some(hook) = &self.before_analysis {
                hook.call();
            }
            self.observe(exchange)
        }));
        match observed {
            Ok(Ok(rows)) => {
                model.metrics.rows_observed.inc_by(rows);
                self.observing.metrics.observed.inc();
            }
            Ok(Err(skipped)) => self.observing.skip(&model, skipped.reason, skipped.rows),
            Err(_panic) => {
                self.observing.metrics.panics.inc();
                self.observing.skip(&model, SkipReason::Panic, 1);
            }
        }
    }

    fn observe(&self, exchange: Exchange) -> Result<u64, Skipped> {
        let model = Arc::clone(&exchange.model);
        let rows = decode::Rows::read(exchange)?;
        if rows.is_empty_batch() {
            return Ok(0);
        }
        let Some(mut analysis) = model.analysis() else {
            return Err(Skipped {
                reason: SkipReason::NoProfile,
                rows: rows.count(),
            });
        };
        let changes = analysis.observe(&rows, now_unix_ms())?;
        drop(analysis);
        for change in changes {
            self.raise.change(&model, change);
        }
        Ok(rows.count())
    }

    /// Shows what has been counted, and closes windows whose time is up.
    fn look_at_windows(&self) {
        for model in self.observing.models.all() {
            let looked = catch_unwind(AssertUnwindSafe(|| {
                let mut analysis = model.analysis()?;
                analysis.publish();
                analysis.close_by_time(Instant::now(), self.window_time, now_unix_ms())
            }));
            match looked {
                Ok(Some(change)) => self.raise.change(&model, change),
                Ok(None) => {}
                Err(_panic) => self.observing.metrics.panics.inc(),
            }
        }
    }
}

/// Why an exchange was not observed, and how many rows it had as far as they could be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) reason: SkipReason,
    pub(crate) rows: u64,
}

impl Skipped {
    fn one(reason: SkipReason) -> Self {
        Self { reason, rows: 1 }
    }
}

/// Milliseconds since 1970, by the wall clock; a clock before that is 0.
pub(crate) fn now_unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::metrics::Metrics;
    use crate::models::Models;

    /// An exchange of a model without a profile.
    pub(crate) fn exchange(request: Bytes, response: Bytes) -> Exchange {
        let capture = |body: Bytes| {
            let mut capture = Capture::new(usize::MAX);
            capture.push(&body);
            capture
        };
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        Exchange {
            model: Models::new(&metrics, Vec::new()).other(),
            protocol: Protocol::V2,
            request: capture(request),
            request_head: BodyHead::default(),
            response: capture(response),
            response_head: BodyHead::default(),
        }
    }
}
