//! One endpoint: its connections, how fast it answers, whether it can be reached. Shared by all routes that name it,
//! and kept when routes change.

mod latency;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use plumbline_service::upstream::{Options, Target, Upstream};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::call::Family;
use crate::metrics::{EndpointMetrics, Metrics};
use latency::PeakEwma;

/// How long an endpoint is avoided after it could not be reached the first time; doubled each time, up to the maximum.
/// Short, because a pod that restarts is back within seconds and the attempt costs one request a connect timeout.
const AVOID: Duration = Duration::from_secs(1);
const AVOID_AT_MOST: Duration = Duration::from_secs(16);

/// One endpoint.
///
/// What is [`Used`] comes with the first request: most of the thousands that Kubernetes has get none from this gateway,
/// and each would cost some 10 kB and 40 lines of every scrape.
#[derive(Debug)]
pub(crate) struct Endpoint {
    target: Target,
    means: Arc<Means>,
    used: OnceLock<Box<Used>>,
    pending: AtomicUsize,
    latency: PeakEwma,
    /// All times below are nanoseconds after this.
    born: Instant,
    avoid_until: AtomicU64,
    failures: AtomicU32,
}

/// What requests to an endpoint need.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) upstream: Upstream<RequestBody>,
    pub(crate) metrics: EndpointMetrics,
}

/// What every endpoint is made with.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) metrics: Metrics,
    pub(crate) options: Options,
}

impl Endpoint {
    pub(crate) fn new(target: Target, means: Arc<Means>) -> Self {
        Self {
            target,
            means,
            used: OnceLock::new(),
            pending: AtomicUsize::new(0),
            latency: PeakEwma::default(),
            born: Instant::now(),
            avoid_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
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
            Box::new(Used { upstream, metrics })
        })
    }

    /// Nothing before the first request.
    pub(crate) fn used_before(&self) -> Option<&Used> {
        self.used.get().map(|used| &**used)
    }

    /// Counts one request until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.used().metrics.pending.inc();
        Pending(Arc::clone(self))
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Expected wait, in nanoseconds, of a request that goes here now: peak-EWMA latency × (requests at it + 1).
    ///
    /// An endpoint that has not answered yet costs nothing for its first request, so that it is tried, and a second
    /// for each that waits, so that it is not flooded before its first answer.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        let pending = self.pending() as f64;
        match self.latency.nanoseconds(self.age(now)) {
            Some(latency) => latency * (pending + 1.0),
            None => pending * 1e9,
        }
    }

    /// The smoothed latency, when it has answered before.
    pub(crate) fn latency(&self, now: Instant) -> Option<Duration> {
        let nanoseconds = self.latency.nanoseconds(self.age(now))?;
        Some(Duration::from_nanos(nanoseconds as u64))
    }

    /// It answered after `took`.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        self.latency.observe(took, self.age(now));
        self.failures.store(0, Ordering::Relaxed);
        self.avoid_until.store(0, Ordering::Relaxed);
    }

    /// It could not be reached.
    pub(crate) fn unreachable(&self, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let avoid = AVOID.saturating_mul(1 << failures.min(8)).min(AVOID_AT_MOST);
        let until = self.age(now).saturating_add(nanoseconds(avoid));
        self.avoid_until.store(until, Ordering::Relaxed);
    }

    /// Whether it could not be reached a short time ago.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        let until = self.avoid_until.load(Ordering::Relaxed);
        until != 0 && self.age(now) < until
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

/// One request at an endpoint.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Endpoint>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
        self.0.used().metrics.pending.dec();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use plumbline_service::config::ParseSetting as _;
    use plumbline_service::metrics::Metrics as Registry;

    use super::*;

    pub(crate) fn endpoint(url: &str) -> Arc<Endpoint> {
        let means = Means {
            metrics: Metrics::declare(&Registry::default()),
            options: Options::default(),
        };
        let target = Target::parse_setting(url).expect("an endpoint");
        Arc::new(Endpoint::new(target, Arc::new(means)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_endpoint_is_avoided_for_longer_each_time_and_forgiven_at_once() {
        let endpoint = endpoint("http://127.0.0.1:1");
        let start = Instant::now();
        let seconds = |count| start + Duration::from_secs(count);
        endpoint.unreachable(start);
        assert!(endpoint.is_avoided(start));
        assert!(!endpoint.is_avoided(seconds(1)));
        endpoint.unreachable(seconds(1));
        assert!(endpoint.is_avoided(seconds(2)));
        assert!(!endpoint.is_avoided(seconds(3)));
        for _ in 0..40 {
            endpoint.unreachable(seconds(3));
        }
        assert!(endpoint.is_avoided(seconds(18)));
        assert!(!endpoint.is_avoided(seconds(19)));
        endpoint.unreachable(seconds(20));
        endpoint.answered(Duration::from_millis(1), seconds(20));
        assert!(!endpoint.is_avoided(seconds(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn cost_grows_with_latency_and_with_requests_that_wait() {
        let endpoint = endpoint("http://127.0.0.1:1");
        let now = Instant::now();
        assert_eq!(endpoint.cost(now), 0.0);
        let first = endpoint.begin();
        assert_eq!(endpoint.cost(now), 1e9);
        endpoint.answered(Duration::from_millis(2), now);
        assert_eq!(endpoint.cost(now), 4e6);
        drop(first);
        assert_eq!(endpoint.cost(now), 2e6);
        assert_eq!(
            (endpoint.pending(), endpoint.used().metrics.pending.get()),
            (0, 0)
        );
    }
}
