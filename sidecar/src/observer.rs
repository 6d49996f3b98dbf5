//! Observes answered exchanges on a thread of its own: whatever happens here, the answers have gone.

#[cfg(test)]
mod allocations;
mod analysis;
mod decode;
mod learning;
mod mapping;
mod queue;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use plumbline_inference_protocol::ModelRef;
use tokio::sync::watch;

pub(crate) use analysis::{Analysis, AnalysisState, Change, Standing, identity as profile_identity};
pub(crate) use learning::GENERATOR as LEARNED_BY;
use learning::{Learner, Progress};
pub(crate) use mapping::Column;
pub(crate) use queue::Queue;

use crate::config::Hook;
use crate::events::Raise;
use crate::models::Model;
use crate::observation::{Observation, Observing};
use crate::references::References;
use crate::skip::SkipReason;
use decode::Rows;

/// Rest after a batch; exchanges that come meanwhile make the next one.
const REST: Duration = Duration::from_millis(2);
/// The longest rest, when nothing comes. Looking for work so often costs next to nothing, and nobody has to wake the
/// observer, which would be a system call on the request path.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// The observer's thread, and how far it has come.
#[derive(Debug)]
pub(crate) struct Observer {
    thread: Option<JoinHandle<()>>,
    observing: Arc<Observing>,
}

/// Runs until the queue is closed and empty.
struct Work {
    observing: Arc<Observing>,
    raise: Arc<Raise>,
    before_analysis: Option<Hook>,
    /// A window with rows is closed after this time.
    window_time: Duration,
    settled: watch::Sender<u64>,
    references: References,
    /// References in the making.
    learners: Mutex<Vec<Learner>>,
}

impl Observer {
    /// Starts the thread. `settled` counts the exchanges that it is done with, after their metrics are up to date.
    ///
    /// # Errors
    /// The system's, when there is no thread to have.
    pub(crate) fn spawn(
        observing: &Arc<Observing>,
        references: References,
        raise: Arc<Raise>,
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
            references,
            learners: Mutex::default(),
        };
        let thread = std::thread::Builder::new()
            .name("sidecar-observer".to_owned())
            .spawn(move || {
                step_back();
                work.run_whatever_happens();
            })?;
        Ok(Self {
            thread: Some(thread),
            observing: Arc::clone(observing),
        })
    }

    /// Lets the observer finish what is queued and waits for that.
    pub(crate) async fn finish(mut self) {
        self.close();
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the observer ended with a panic");
        }
    }

    fn close(&self) {
        self.observing.queue.close();
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// Niceness of the observer's thread: of a CPU that it shares with a busy network thread it gets a tenth.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lets the network threads go first where CPU is short. What is not observed then is counted; what is answered late is not
/// made up for.
#[cfg(target_os = "linux")]
fn step_back() {
    // Of a single thread, in Linux.
    let thread = Some(rustix::thread::gettid());
    if let Err(error) = rustix::process::setpriority_process(thread, NICENESS) {
        tracing::debug!(%error, "the observer keeps the priority of the network threads");
    }
}

/// Elsewhere niceness is of the whole process.
#[cfg(not(target_os = "linux"))]
fn step_back() {}

/// A sidecar that is dropped without draining leaves no thread behind.
impl Drop for Observer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Work {
    /// What is observed catches its panics itself; one from elsewhere costs a rest, not the observer.
    fn run_whatever_happens(self) {
        let mut batch = VecDeque::new();
        while catch_unwind(AssertUnwindSafe(|| self.run(&mut batch))).is_err() {
            self.observing.metrics.panics.inc();
            tracing::error!("the observer panicked and goes on");
            std::thread::park_timeout(REST);
        }
    }

    fn run(&self, batch: &mut VecDeque<Box<Observation>>) {
        let mut rest = REST;
        while self.observing.queue.take(batch) {
            let taken = batch.len() as u64;
            while let Some(exchange) = batch.pop_front() {
                self.settle(exchange);
            }
            self.look_at_windows();
            self.observing.keeping.show();
            rest = if taken > 0 {
                REST
            } else {
                (rest * 2).min(LONGEST_REST)
            };
            if taken > 0 {
                self.settled.send_modify(|settled| *settled += taken);
            }
            std::thread::park_timeout(rest);
        }
    }

    /// Observes or skips one exchange; a panic is a reason to skip.
    fn settle(&self, mut exchange: Box<Observation>) {
        let observed = catch_unwind(AssertUnwindSafe(|| {
            if let Some(hook) = &self.before_analysis {
                hook.call();
            }
            self.observe(&mut exchange)
        }));
        if observed.is_err() {
            self.observing.metrics.panics.inc();
            exchange.model().metrics.rows_skipped(SkipReason::Panic, 1);
        }
        if exchange.is_part() {
            return;
        }
        match observed {
            Ok(true) => self.observing.metrics.observed.inc(),
            Ok(false) | Err(_) => self.observing.metrics.skipped.inc(),
        }
    }

    /// Observes the request, or the requests of a stream. Whether there was one that could be.
    fn observe(&self, exchange: &mut Observation) -> bool {
        let reads = decode::read(exchange);
        // Of a stream all may have been handed over before its end.
        let mut observed = reads.is_empty();
        for read in reads {
            let model = self.model_of(exchange, read.model.as_ref());
            // The messages of a stream have ids of their own.
            let id = if exchange.is_streaming() {
                read.id.as_deref()
            } else {
                exchange.request_id.as_deref()
            };
            let id = id.and_then(|id| std::str::from_utf8(id).ok());
            match read.rows.and_then(|rows| self.compare(&model, &rows, id)) {
                Ok(rows) => {
                    model.metrics.rows_observed.inc_by(rows);
                    observed = true;
                }
                Err(skipped) => model.metrics.rows_skipped(skipped.reason, skipped.rows),
            }
        }
        observed
    }

    /// Messages of a stream name their models one by one; a compressed message is read here first.
    fn model_of(&self, exchange: &mut Observation, named: Option<&ModelRef>) -> Arc<Model> {
        if !exchange.is_streaming() && !exchange.is_model_unknown() {
            return exchange.model();
        }
        let models = &self.observing.models;
        let model = named.map_or_else(
            || exchange.model(),
            |named| models.find(&named.name, named.version.as_deref(), true),
        );
        if exchange.is_model_unknown() {
            exchange.is_about(&model);
        }
        model
    }

    fn compare(&self, model: &Arc<Model>, rows: &Rows, id: Option<&str>) -> Result<u64, Skipped> {
        if rows.is_empty_batch() {
            return Ok(0);
        }
        let feedback = &self.observing.feedback;
        let keep = id.is_some() && feedback.is_on();
        // Told before anybody can replace the comparison: the end of an episode by that comes after its begin.
        let observed = model.with_analysis(|analysis| {
            let observed = analysis.observe(rows, keep, now_unix_ms())?;
            for change in observed.changes {
                self.tell(model, change);
            }
            Ok(observed.predictions)
        });
        let Some(observed) = observed else {
            return Err(Skipped {
                reason: self.learn(model, rows),
                rows: rows.count(),
            });
        };
        if let (Some(id), Some(predictions)) = (id, observed?) {
            feedback.keep(&model.name, id, predictions);
        }
        Ok(rows.count())
    }

    /// Learns from rows that there is nothing to compare with.
    fn learn(&self, model: &Arc<Model>, rows: &Rows) -> SkipReason {
        if model.learning().is_none() {
            return SkipReason::NoProfile;
        }
        let mut learners = self.learners.lock().unwrap_or_else(PoisonError::into_inner);
        let at = learners
            .iter()
            .position(|learner| learner.is_of(&model.name, &model.version));
        let at = at.or_else(|| {
            let wanted = self.references.learn_rows();
            learners.push(Learner::new(&model.name, &model.version, wanted, rows)?);
            Some(learners.len() - 1)
        });
        let Some(at) = at else {
            return SkipReason::NoSubject;
        };
        match learners[at].observe(rows, || jiff::Timestamp::now().to_string()) {
            Progress::Rows(learned) => self.references.learning(model, learned),
            Progress::Learned(profile) => {
                learners.swap_remove(at);
                self.references.learned(&self.observing.models, model, *profile);
            }
            Progress::GivenUp(reason) => {
                learners.swap_remove(at);
                References::give_up(model, &reason);
            }
        }
        SkipReason::Learning
    }

    /// Shows what has been counted, and closes windows whose time is up.
    fn look_at_windows(&self) {
        for model in self.observing.models.all() {
            let looked = catch_unwind(AssertUnwindSafe(|| {
                model.with_analysis(|analysis| {
                    analysis.publish();
                    for change in analysis.close_by_time(Instant::now(), self.window_time, now_unix_ms()) {
                        self.tell(&model, change);
                    }
                })
            }));
            if looked.is_err() {
                self.observing.metrics.panics.inc();
            }
        }
    }

    /// The rows of a change have been observed, whatever becomes of telling it.
    fn tell(&self, model: &Model, change: Change) {
        let told = catch_unwind(AssertUnwindSafe(|| self.raise.change(change)));
        if told.is_err() {
            self.observing.metrics.panics.inc();
            tracing::error!(model.name = model.name, "a change of state could not be told");
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
    use http::Request;

    use super::*;
    use crate::feedback::Feedback;
    use crate::metrics::Metrics;
    use crate::models::Models;
    use crate::tee::Keeping;

    /// Observing without a profile.
    pub(crate) fn observing() -> Arc<Observing> {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        observing_with(&metrics, Vec::new())
    }

    /// Observing with these analyses, by name and version of their models.
    pub(crate) fn observing_with(
        metrics: &Metrics,
        analyses: Vec<(String, String, Analysis)>,
    ) -> Arc<Observing> {
        let models = Models::new(metrics, false);
        for (name, version, analysis) in analyses {
            models.set_analysis(&name, &version, analysis);
        }
        let exchanges = metrics.exchanges.clone();
        let keeping = Keeping::new(1 << 20, 1 << 20, exchanges.queued_bytes.clone(), None);
        Arc::new(Observing {
            models,
            queue: Queue::new(8, exchanges.queued.clone()),
            keeping: Arc::new(keeping),
            off: None,
            logger: None,
            feedback: Feedback::new(Duration::ZERO, 0, metrics.feedback.clone()),
            metrics: exchanges,
        })
    }

    /// An exchange that has just begun.
    pub(crate) fn exchange() -> Box<Observation> {
        let request = Request::post("/v2/models/churn/infer")
            .body(())
            .expect("a request");
        let (head, ()) = request.into_parts();
        observing().begin(&head, Instant::now()).expect("an inference")
    }
}
