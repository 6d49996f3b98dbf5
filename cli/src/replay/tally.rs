//! What became of the requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counts and latencies, shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

/// A moment's counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Rows in the requests that were sent.
    pub(crate) rows: u64,
    /// Requests sent.
    pub(crate) sent: u64,
    /// Requests answered with a prediction.
    pub(crate) ok: u64,
    /// The others by what came back.
    pub(crate) failed: BTreeMap<String, Failure>,
    latencies: Latencies,
}

/// Requests that failed in one way.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) requests: u64,
    /// What the first of them was told.
    pub(crate) first: String,
}

impl Tally {
    /// A prediction came back after `latency`.
    pub(crate) fn ok(&self, rows: usize, latency: Duration) {
        self.with(|counts| {
            counts.rows += rows as u64;
            counts.sent += 1;
            counts.ok += 1;
            counts.latencies.add(latency);
        });
    }

    /// Something else came back; `status` is short, `text` is what the client was told.
    pub(crate) fn failed(&self, rows: usize, status: String, text: String) {
        self.with(|counts| {
            counts.rows += rows as u64;
            counts.sent += 1;
            let failure = counts.failed.entry(status).or_insert(Failure {
                requests: 0,
                first: text,
            });
            failure.requests += 1;
        });
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        // Counters stay usable whatever happened to another connection's task.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counts {
    /// Latency below which this share of the answered requests stayed; within 3 %.
    pub(crate) fn latency(&self, share: f64) -> Option<Duration> {
        self.latencies.quantile(share)
    }

    /// Requests that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().map(|failure| failure.requests).sum()
    }
}

/// Buckets per factor of two: neighbours differ by 1/32 or less.
const STEPS: u64 = 32;

/// A histogram of microseconds with a constant relative error, so that memory does not grow with the traffic.
#[derive(Clone, Debug, Default)]
struct Latencies {
    buckets: Vec<u64>,
    total: u64,
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.total += 1;
    }

    fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|bucket| Duration::from_micros(lower_end(bucket)))
    }
}

/// Below `STEPS` one bucket for each microsecond, then `STEPS` buckets for each power of two.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let exponent = u64::from(micros.ilog2() - STEPS.ilog2());
    ((exponent + 1) * STEPS + (micros >> exponent) - STEPS) as usize
}

fn lower_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        bucket
    } else {
        (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
    }
}

/// `870 µs`, `1.24 ms`, `2.5 s`.
pub(crate) fn show(latency: Option<Duration>) -> String {
    let Some(latency) = latency else {
        return "–".to_owned();
    };
    let micros = latency.as_micros() as f64;
    match micros {
        ..1e3 => format!("{micros} µs"),
        ..1e5 => format!("{:.2} ms", micros / 1e3),
        ..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_close_below_its_values() {
        for micros in (0..100_000).chain([1 << 40, u64::MAX]) {
            let start = lower_end(bucket(micros));
            assert!(
                start <= micros && (micros - start) as f64 <= micros as f64 / 32.0,
                "{micros} {start}"
            );
        }
    }

    #[test]
    fn quantiles_are_of_answered_requests_only() {
        let tally = Tally::default();
        assert_eq!(tally.counts().latency(0.5), None);
        for micros in 1..=1_000 {
            tally.ok(4, Duration::from_micros(micros));
        }
        tally.failed(4, "429".to_owned(), "first".to_owned());
        tally.failed(4, "429".to_owned(), "second".to_owned());
        let counts = tally.counts();
        assert_eq!(
            (counts.rows, counts.sent, counts.ok, counts.failures()),
            (4_008, 1_002, 1_000, 2)
        );
        assert_eq!(counts.failed["429"].first, "first");
        let near = |share, micros: f64| {
            let found = counts.latency(share).expect("latencies").as_secs_f64() * 1e6;
            assert!((found / micros - 1.0).abs() < 0.035, "{share}: {found}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
    }

    #[test]
    fn latencies_are_shown_in_a_fitting_unit() {
        let shown = |micros| show(Some(Duration::from_micros(micros)));
        assert_eq!(
            [shown(870), shown(1_240), shown(250_000), shown(2_500_000)],
            ["870 µs", "1.24 ms", "250 ms", "2.5 s"]
        );
        assert_eq!(show(None), "–");
    }
}
