//! What came back: latencies, refusals, faults, and whether the generator itself was in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Latencies are recorded from 1 ns to two minutes with three significant digits: about 230 KB a histogram.
const MAX_LATENCY: Duration = Duration::from_mins(2);

/// A send that is later than this because of the generator is counted: it belongs to no server.
pub const LATE: Duration = Duration::from_millis(1);

/// Examples of faults that are kept, with their words.
const EXAMPLES: usize = 5;

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("no connection")]
    Connect,
    /// The connection ended before the answer did.
    #[error("connection lost")]
    Lost,
    /// No answer when the run had to end.
    #[error("unanswered")]
    Unanswered,
    /// Due, but no connection was free before the run had to end.
    #[error("unsent")]
    Unsent,
    /// Not HTTP, not gRPC, not the promised length.
    #[error("malformed answer")]
    Malformed,
    /// A status that was not expected.
    #[error("status {0}")]
    Status(u16),
    /// A gRPC status that was not expected.
    #[error("grpc-status {0}")]
    Grpc(u16),
    /// A good status over no outputs.
    #[error("no outputs")]
    Empty,
    /// Another answer than the first to the same bytes.
    #[error("another answer than before")]
    Different,
}

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good status and outputs.
    Ok,
    /// Refused in a way that the plan allows.
    Refused {
        /// Whether the answer said when to come back.
        retry_after: bool,
    },
    /// Anything else.
    Failed(Fault),
}

/// Counts of one run, or of one thread's part of it.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the time when the request was due (open loop) or sent (closed loop) to the complete answer; nanoseconds.
    pub ok: Histogram<u64>,
    /// The same for refusals.
    pub refused: Histogram<u64>,
    /// Refusals that did not say when to come back.
    pub refused_without_retry_after: u64,
    /// Failures by kind. Those of the warm-up count, too.
    pub faults: BTreeMap<Fault, u64>,
    /// The first failures in words.
    pub examples: Vec<String>,
    /// Requests that were due in the recorded time (open loop).
    pub due: u64,
    /// Of those, sent more than [`LATE`] late because the generator was slow.
    pub late: u64,
    /// Of those, sent more than [`LATE`] late because every connection was waiting for an answer.
    pub waited: u64,
    /// The latest that the generator was.
    pub latest: Duration,
    /// Connections made after the first ones.
    pub reconnects: u64,
    /// When the last recorded answer was complete.
    pub last: Option<Instant>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_max(MAX_LATENCY.as_nanos() as u64, 3).expect("1 ns to two minutes is a range")
        };
        Self {
            ok: histogram(),
            refused: histogram(),
            refused_without_retry_after: 0,
            faults: BTreeMap::new(),
            examples: Vec::new(),
            due: 0,
            late: 0,
            waited: 0,
            latest: Duration::ZERO,
            reconnects: 0,
            last: None,
        }
    }
}

impl Tally {
    /// Counts an answer that was complete at `done`; `since` is when it was due or sent. Only failures count while
    /// `warming_up`.
    pub fn record(&mut self, outcome: Outcome, since: Instant, done: Instant, warming_up: bool) {
        if let Outcome::Failed(fault) = outcome {
            *self.faults.entry(fault).or_default() += 1;
        }
        if warming_up {
            return;
        }
        self.last = self.last.max(Some(done));
        let nanos = u64::try_from(done.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX);
        match outcome {
            Outcome::Ok => self.ok.saturating_record(nanos),
            Outcome::Refused { retry_after } => {
                self.refused.saturating_record(nanos);
                self.refused_without_retry_after += u64::from(!retry_after);
            }
            Outcome::Failed(_) => {}
        }
    }

    /// Keeps what a failed answer said, if there is room.
    pub fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }

    /// Counts a failure that no answer tells.
    pub fn fault(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Tally) {
        // Both have the same bounds, so adding cannot fail.
        let _same_bounds = self.ok.add(&other.ok);
        let _same_bounds = self.refused.add(&other.refused);
        self.refused_without_retry_after += other.refused_without_retry_after;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for text in &other.examples {
            self.example(|| text.clone());
        }
        self.due += other.due;
        self.late += other.late;
        self.waited += other.waited;
        self.latest = self.latest.max(other.latest);
        self.reconnects += other.reconnects;
        self.last = self.last.max(other.last);
    }

    /// All failures.
    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_counts_failures_only() {
        let mut tally = Tally::default();
        let now = Instant::now();
        tally.record(Outcome::Ok, now, now, true);
        tally.record(Outcome::Failed(Fault::Lost), now, now, true);
        assert_eq!((tally.ok.len(), tally.failed(), tally.last), (0, 1, None));
    }

    #[test]
    fn latency_counts_from_the_time_it_was_due() {
        let mut tally = Tally::default();
        let due = Instant::now();
        tally.record(Outcome::Ok, due, due + Duration::from_millis(250), false);
        let mut sum = Tally::default();
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!(sum.ok.len(), 2);
        let p50 = Duration::from_nanos(sum.ok.value_at_quantile(0.5));
        // Three significant digits.
        assert!((249..=251).contains(&p50.as_millis()), "{p50:?}");
    }

    #[test]
    fn a_refusal_without_a_time_to_come_back_is_told() {
        let mut tally = Tally::default();
        let now = Instant::now();
        for retry_after in [true, false, true] {
            tally.record(Outcome::Refused { retry_after }, now, now, false);
        }
        assert_eq!((tally.refused.len(), tally.refused_without_retry_after), (3, 1));
        assert_eq!(tally.failed(), 0);
    }
}
