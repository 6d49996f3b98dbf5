//! One endpoint: its connections, how fast it answers, whether it is in use. Shared by all routes that name it, and
//! kept when routes change: what one route learns of it, all know.

mod health;
mod latency;

use std::sync::atomic::{self, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use plumbline_service::upstream::{Options, Target, Upstream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::call::Family;
use crate::metrics::{EndpointMetrics, Metrics};
use health::Health;
use latency::PeakEwma;

pub(crate) use health::{Cause, Standing, Suspicion};

/// One endpoint.
///
/// What is [`Used`] comes with the first request: most of the thousands that Kubernetes has get none from this gateway,
/// and each would cost some 10 kB and 40 lines of every scrape. Until then all of them are [`UNUSED`].
#[derive(Debug)]
pub(crate) struct Endpoint {
    target: Target,
    means: Arc<Means>,
    used: OnceLock<Box<Used>>,
    /// All times are nanoseconds after this.
    born: Instant,
}

const PENDING: u64 = 1;
const WAITING: u64 = 1 << 32;

/// What requests to an endpoint need.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) upstream: Upstream<RequestBody>,
    pub(crate) metrics: EndpointMetrics,
    state: State,
}

/// What requests have shown of an endpoint.
#[derive(Debug, Default)]
struct State {
    /// Requests at it, and in the upper half those that wait for the head of their answer.
    load: AtomicU64,
    /// Since when those that wait have seen no answer.
    silent_since: AtomicU64,
    latency: PeakEwma,
    health: Health,
    /// When it last ended, as far as is known; 0 for never.
    ended: AtomicU64,
}

/// Latency in nanoseconds of an endpoint whose first answer is still waited for: it is not flooded before.
const UNKNOWN: f64 = 1e9;

/// What an endpoint offers to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bid {
    /// Peak-EWMA latency in nanoseconds; none before the first request.
    latency: Option<f64>,
    /// Requests at it.
    pending: f64,
    /// The part of its share that it gets ([`Endpoint::ramp`]).
    pub(crate) share: f64,
}

impl Bid {
    /// What it costs to go there instead of to `other`: latency × (1 + 3/2 × own requests + 1/2 × those of the other).
    ///
    /// Between equals that is the one with fewer requests. With the own requests alone, as in Finagle's metric, an idle endpoint
    /// whose answers take ten times as long is the cheaper one as soon as ten requests are at the other, which are the usual
    /// number there and a part of the latency already; with those of the other counted, the latency of an idle endpoint
    /// has to be less than three times that of a busy one.
    ///
    /// An endpoint costs nothing for its first request, so that it is tried.
    pub(crate) fn cost(&self, other: &Self) -> f64 {
        self.latency.map_or(0.0, |latency| {
            latency * (1.0 + 1.5 * self.pending + 0.5 * other.pending)
        })
    }

    /// Whether it is not a choice beside `other`, idle as it may be.
    pub(crate) fn is_far_slower_than(&self, other: &Self) -> bool {
        let latencies = self.latency.zip(other.latency);
        latencies.is_some_and(|(latency, other)| latency >= 3.0 * other)
    }
}

static UNUSED: LazyLock<State> = LazyLock::new(State::default);

/// An endpoint is believed to have ended no more often than this: one that breaks every connection has not.
const BETWEEN_ENDS: Duration = Duration::from_secs(10);

/// What every endpoint is made with.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) metrics: Metrics,
    pub(crate) options: Options,
    /// Told when routes are replaced, when an endpoint comes back and when a probe has ended.
    pub(crate) changes: Notify,
}

impl Means {
    pub(crate) fn new(metrics: Metrics, options: Options) -> Self {
        Self {
            metrics,
            options,
            changes: Notify::new(),
        }
    }
}

impl Endpoint {
    pub(crate) fn new(target: Target, means: Arc<Means>) -> Self {
        Self {
            target,
            means,
            used: OnceLock::new(),
            born: Instant::now(),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Made now if there was no request before.
    pub(crate) fn used(&self) -> &Used {
        self.used.get_or_init(|| {
            let metrics = self.means.metrics.endpoint(&self.target.to_string());
            let mut options = self.means.options.clone();
            options.metrics = metrics.connections.clone();
            let upstream = Upstream::new(self.target.clone(), options);
            Box::new(Used {
                upstream,
                metrics,
                state: State::default(),
            })
        })
    }

    /// Nothing before the first request.
    pub(crate) fn used_before(&self) -> Option<&Used> {
        self.used.get().map(|used| &**used)
    }

    /// What its requests have shown, to be looked at.
    fn state(&self) -> &State {
        self.used.get().map_or(&UNUSED, |used| &used.state)
    }

    /// Counts one request until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> Pending {
        let Used { state, metrics, .. } = self.used();
        let before = state.load.fetch_add(PENDING + WAITING, Ordering::Relaxed);
        if before < WAITING {
            state.silent_since.store(self.age(now), Ordering::Relaxed);
        }
        metrics.pending.inc();
        Pending {
            endpoint: Arc::clone(self),
            waiting: true,
        }
    }

    pub(crate) fn pending(&self) -> usize {
        (self.state().load.load(Ordering::Relaxed) % WAITING) as usize
    }

    /// What it offers to a request that comes now; `window`: see [`Self::ramp`].
    pub(crate) fn bid(&self, now: Instant, window: Duration) -> Bid {
        let now = self.age(now);
        let state = self.state();
        let load = state.load.load(Ordering::Relaxed);
        // While requests wait, the latency is no less than the time since the last answer, and does not decay: an endpoint
        // that hangs becomes dearer with every moment, before a single deadline has passed.
        let latency = if load < WAITING {
            state.latency.decayed(now)
        } else {
            let silent = now.saturating_sub(state.silent_since.load(Ordering::Relaxed));
            Some(state.latency.last().unwrap_or(UNKNOWN).max(silent as f64))
        };
        Bid {
            latency,
            pending: (load % WAITING) as f64,
            share: state.health.ramp(now, nanoseconds(window)),
        }
    }

    /// The smoothed latency, when it has answered before.
    pub(crate) fn latency(&self, now: Instant) -> Option<Duration> {
        let nanoseconds = self.state().latency.decayed(self.age(now))?;
        Some(Duration::from_nanos(nanoseconds as u64))
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        self.state().health.standing(self.age(now))
    }

    /// When a probe is due and why it is out, while it is.
    pub(crate) fn out_until(&self) -> Option<(Instant, Cause)> {
        let health = &self.state().health;
        let until = health.out_until()?;
        Some((self.born + Duration::from_nanos(until), health.cause()))
    }

    /// The place of the one request that may find out whether it is well again, if that is due.
    pub(crate) fn claim_probe(self: &Arc<Self>, now: Instant) -> Option<Probe> {
        let claimed = self.used.get()?.state.health.claim_probe(self.age(now));
        claimed.then(|| Probe(Arc::clone(self)))
    }

    /// The part of its share that it gets now, 0.1 to 1; `window`: how long after it was new or came back that grows.
    pub(crate) fn ramp(&self, now: Instant, window: Duration) -> f64 {
        self.state().health.ramp(self.age(now), nanoseconds(window))
    }

    /// An answer's head came after `took`.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let (state, now) = (&self.used().state, self.age(now));
        state.latency.observe(took, now);
        state.silent_since.store(now, Ordering::Relaxed);
    }

    /// A request waited for `took` and left without an answer: the endpoint is at least that slow. True when that is
    /// slower than thought.
    pub(crate) fn kept_waiting(&self, took: Duration, now: Instant) -> bool {
        let latency = &self.used().state.latency;
        let slower = latency
            .last()
            .is_none_or(|latency| took.as_nanos() as f64 > latency);
        if slower {
            latency.observe(took, self.age(now));
        }
        slower
    }

    /// An answer was of no use: it counts as one that took this long.
    pub(crate) fn penalize(&self, as_if: Duration, now: Instant) {
        self.used().state.latency.observe(as_if, self.age(now));
    }

    /// A request that began at `began` was answered well.
    pub(crate) fn succeeded(&self, began: Instant, now: Instant) {
        let Used { state, metrics, .. } = self.used();
        if state.health.succeeded(self.age(began), self.age(now)) {
            metrics.ejected.set(0);
            tracing::info!(endpoint = %self.target(), "endpoint is in use again");
            self.means.changes.notify_waiters();
        }
    }

    /// A request that began at `began` failed.
    pub(crate) fn failed(&self, began: Instant, now: Instant) -> Suspicion {
        let health = &self.used().state.health;
        health.failed(self.age(began), self.age(now))
    }

    /// The connection of a request that began at `began` broke. Whether the request was under way when the endpoint ended:
    /// a process that dies takes all of its requests along, once, which is no sign that others should be spared.
    pub(crate) fn broke(&self, began: Instant, now: Instant) -> bool {
        let (began, now) = (self.age(began), self.age(now).max(1));
        let ends =
            |last: u64| (last == 0 || now.saturating_sub(last) >= nanoseconds(BETWEEN_ENDS)).then_some(now);
        let ended = &self.used().state.ended;
        match ended.fetch_update(Ordering::Relaxed, Ordering::Relaxed, ends) {
            Ok(_) => true,
            Err(last) => began <= last,
        }
    }

    /// Puts it out of use for some time, because of a request that began at `began`.
    pub(crate) fn put_out(&self, cause: Cause, began: Instant, now: Instant) {
        let jitter = 0.75 + fastrand::f64() / 2.0;
        let Used { state, metrics, .. } = self.used();
        let out = state
            .health
            .put_out(cause, self.age(began), self.age(now), jitter);
        if let Some(out) = out {
            metrics.ejected.set(1);
            metrics.ejections.inc();
            let out = Duration::from_nanos(out);
            tracing::warn!(endpoint = %self.target(), ?cause, ?out, "endpoint put out of use");
        }
    }

    /// The share of the last answers that were failures, 0 without any.
    pub(crate) fn failure_rate(&self, now: Instant) -> f64 {
        self.state().health.failure_rate(self.age(now))
    }

    fn age(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.born))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where calls can go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Where gRPC goes when it has ports of its own; none when it goes to `endpoints`.
    grpc: Box<[Arc<Endpoint>]>,
}

impl Endpoints {
    pub(crate) fn new(endpoints: Box<[Arc<Endpoint>]>, grpc: Box<[Arc<Endpoint>]>) -> Self {
        Self { endpoints, grpc }
    }

    /// Where calls of a family go.
    pub(crate) fn of(&self, family: Family) -> &[Arc<Endpoint>] {
        match family {
            Family::Grpc if !self.grpc.is_empty() => &self.grpc,
            Family::Grpc | Family::V1 | Family::V2 | Family::Other => &self.endpoints,
        }
    }

    /// Those of gRPC alone last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().chain(&self.grpc)
    }
}

/// The place of a probe, until dropped: after its outcome was told, or when it came to nothing.
#[derive(Debug)]
pub(crate) struct Probe(Arc<Endpoint>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.used().state.health.probe_ended();
        self.0.means.changes.notify_waiters();
    }
}

/// One request at an endpoint.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) endpoint: Arc<Endpoint>,
    waiting: bool,
}

impl Pending {
    /// The head of the answer came, or will not come.
    pub(crate) fn waits_no_more(&mut self) {
        if std::mem::take(&mut self.waiting) {
            let load = &self.endpoint.used().state.load;
            load.fetch_sub(WAITING, Ordering::Relaxed);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.waits_no_more();
        let Used { state, metrics, .. } = self.endpoint.used();
        state.load.fetch_sub(PENDING, Ordering::Relaxed);
        metrics.pending.dec();
    }
}

#[cfg(test)]
pub(crate) mod tests;
