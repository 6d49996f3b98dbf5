//! The limit itself: how many requests a service takes before they only wait for each other.

use std::time::Duration;

/// Latency above this many times the unloaded one is queueing. Source: Netflix's gradient2 limit (`rttTolerance`).
const TOLERANCE: f64 = 1.5;
/// Part of the way to the new limit that is gone at once. Source: gradient2 (`smoothing`).
const SMOOTHING: f64 = 0.2;
/// How far the unloaded latency follows that of a window, by what the window shows.
///
/// Faster than thought: the truth.
const WEIGHT_FASTER: f64 = 0.2;
/// Slower with half the limit unused: the service itself has become slower, nobody queues.
const WEIGHT_UNLOADED: f64 = 0.05;
/// Slower at the smallest limit: it is not this gateway's queue, and shedding more would not help.
const WEIGHT_AT_LEAST: f64 = 0.05;
/// Slower under load: queueing, nearly surely. A tenth of a percent in a second, so that an overload of minutes does not
/// become the new normal.
const WEIGHT_LOADED: f64 = 0.0001;
/// What is left of the limit after a window in which the service itself refused one of ten or more.
const BACKOFF: f64 = 0.9;

/// What a window of time showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Mean latency of the good answers.
    pub(crate) latency: Duration,
    /// The most that were in flight.
    pub(crate) peak: usize,
    /// Answers, and those that said that the service is full.
    pub(crate) answers: u64,
    pub(crate) full: u64,
}

/// The smallest and the largest limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// A gradient limit: `limit · clamp(1.5 · unloaded / latency, ½, 1) + √limit`, smoothed.
///
/// It comes to rest where latency is `1.5 / (1 − 1/√limit)` times the unloaded one, twice at a limit of 16: the service is busy throughout,
/// and hardly anything waits in it. Source: Netflix concurrency-limits, `Gradient2Limit`, and Envoy's gradient controller (its `√limit`
/// headroom). Envoy finds the unloaded latency by clamping to 3 requests once a minute, which sheds; here it is a moving average that falls
/// fast and rises only where that is not the queue's doing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradient {
    pub(crate) limit: f64,
    /// Unloaded latency in seconds, once there was a window.
    pub(crate) unloaded: Option<f64>,
}

impl Gradient {
    /// The gradient after one more window.
    pub(crate) fn after(self, window: &Window, bounds: Bounds) -> Self {
        let (min, max) = (bounds.min as f64, bounds.max as f64);
        let latency = window.latency.as_secs_f64();
        let unloaded = self.unloaded.unwrap_or(latency).max(1e-9);
        let (weight, limit) = if window.full * 10 >= window.answers {
            (0.0, self.limit * BACKOFF)
        } else if ((window.peak * 2) as f64) < self.limit {
            (WEIGHT_UNLOADED, self.limit)
        } else {
            let gradient = (TOLERANCE * unloaded / latency.max(1e-9)).clamp(0.5, 1.0);
            let goal = self.limit * gradient + self.limit.sqrt();
            let at_least = self.limit <= min + 1.0;
            let weight = if at_least { WEIGHT_AT_LEAST } else { WEIGHT_LOADED };
            (weight, self.limit + (goal - self.limit) * SMOOTHING)
        };
        let weight = if latency < unloaded { WEIGHT_FASTER } else { weight };
        Self {
            limit: limit.clamp(min, max),
            unloaded: Some(unloaded + (latency - unloaded) * weight),
        }
    }
}
