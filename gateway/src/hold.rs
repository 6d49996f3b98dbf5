//! Requests that wait for an endpoint of a service that has none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::endpoint::{Cause, Standing};
use crate::metrics::HoldMetrics;
use crate::route::{Revision, Route};

/// The place of one route, kept when routes change: what waits here sees the newest.
#[derive(Debug)]
pub(crate) struct Hold {
    held: AtomicUsize,
    /// Nothing once the route is gone. Held to look or to replace, never across a wait.
    newest: Mutex<Weak<Route>>,
    /// Told when routes are replaced and when what is known of an endpoint changes.
    changes: Arc<Notify>,
    metrics: HoldMetrics,
}

/// Why a request is held no longer, without an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// As many as may wait do.
    Full,
    /// No endpoint came in time, or the route is gone.
    NoneCame,
}

impl Hold {
    pub(crate) fn new(changes: Arc<Notify>, metrics: HoldMetrics) -> Self {
        Self {
            held: AtomicUsize::new(0),
            newest: Mutex::default(),
            changes,
            metrics,
        }
    }

    /// The route as it is from now on; nothing when it is gone. [`Notify::notify_waiters`] has to follow.
    pub(crate) fn publish(&self, route: Weak<Route>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = route;
    }

    /// Requests that wait.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until the revision called `name` has an endpoint that may be tried, or is gone and another takes its
    /// place; `most` at a time, each until `until`. Dropping the future gives up the place.
    pub(crate) async fn wait(
        &self,
        name: &str,
        most: usize,
        until: Instant,
    ) -> Result<(Arc<Route>, Arc<Revision>), NotHeld> {
        let Some(_place) = Place::take(self, most) else {
            self.metrics.shed.inc();
            return Err(NotHeld::Full);
        };
        loop {
            let changed = self.changes.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let newest = self
                .newest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .upgrade();
            let route = newest.ok_or(NotHeld::NoneCame)?;
            let same = route.revisions.iter().find(|revision| *revision.name == *name);
            let revision = Arc::clone(same.unwrap_or_else(|| route.revision()));
            let now = Instant::now();
            let next_probe = match reachable(&revision, now) {
                Reachable::Now => return Ok((route, revision)),
                Reachable::At(next) => next,
            };
            if now >= until {
                return Err(NotHeld::NoneCame);
            }
            // The snapshot that this was read from is not kept alive for as long as the wait is.
            drop((route, revision));
            let _either_way = timeout_at(next_probe.unwrap_or(until).min(until), changed).await;
        }
    }
}

enum Reachable {
    Now,
    /// When the next probe is due, if that is known.
    At(Option<Instant>),
}

/// Whether a request may be sent: one of the endpoints is in use, may be probed, or fails without being unreachable.
pub(crate) fn is_reachable(revision: &Revision, now: Instant) -> bool {
    matches!(reachable(revision, now), Reachable::Now)
}

fn reachable(revision: &Revision, now: Instant) -> Reachable {
    let mut next = None;
    for endpoint in &revision.endpoints {
        match (endpoint.standing(now), endpoint.out_until()) {
            (Standing::Out, Some((until, Cause::Unreachable))) => {
                // While a probe is under way, its end is told.
                if until > now {
                    next = Some(next.map_or(until, |next: Instant| next.min(until)));
                }
            }
            _ => return Reachable::Now,
        }
    }
    Reachable::At(next)
}

struct Place<'a> {
    hold: &'a Hold,
    began: Instant,
}

impl<'a> Place<'a> {
    fn take(hold: &'a Hold, most: usize) -> Option<Self> {
        let enter = |held: usize| (held < most).then_some(held + 1);
        hold.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .ok()?;
        hold.metrics.held.inc();
        let began = Instant::now();
        Some(Self { hold, began })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hold.held.fetch_sub(1, Ordering::Relaxed);
        self.hold.metrics.held.dec();
        let held = self.began.elapsed().as_secs_f64();
        self.hold.metrics.duration.observe(held);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plumbline_service::config::ParseSetting as _;
    use plumbline_service::metrics::Metrics as Registry;
    use plumbline_service::upstream::{Options, Target};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::RouteSpec;
    use crate::metrics::Metrics;
    use crate::snapshot::Routes;

    const URL: &str = "http://127.0.0.1:1";
    const SECOND: Duration = Duration::from_secs(1);

    fn routes(urls: &[&str]) -> Arc<Routes> {
        let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
        routes.replace(&[spec(urls)]);
        Arc::new(routes)
    }

    fn spec(urls: &[&str]) -> RouteSpec {
        let target = |url: &&str| Target::parse_setting(url).expect("an endpoint");
        RouteSpec::new("churn", urls.iter().map(target).collect())
    }

    fn route(routes: &Routes) -> Arc<Route> {
        Arc::clone(routes.load().route("churn").expect("routed"))
    }

    type Held = JoinHandle<Result<(Arc<Route>, Arc<Revision>), NotHeld>>;

    async fn wait(routes: &Routes, seconds: u32) -> Held {
        let route = route(routes);
        let until = Instant::now() + seconds * SECOND;
        let held = tokio::spawn(async move { route.state.hold.wait("stable", 2, until).await });
        tokio::task::yield_now().await;
        held
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_endpoint_that_a_new_snapshot_has() {
        let routes = routes(&[]);
        let held = [wait(&routes, 30).await, wait(&routes, 30).await];
        assert_eq!(route(&routes).state.hold.held(), 2);
        let third = wait(&routes, 30).await.await.expect("no panic");
        assert_eq!(third.err(), Some(NotHeld::Full));
        tokio::time::advance(5 * SECOND).await;
        routes.replace(&[spec(&[])]);
        tokio::task::yield_now().await;
        assert_eq!(route(&routes).state.hold.held(), 2, "still nothing to send it to");
        routes.replace(&[spec(&[URL])]);
        for held in held {
            let (_, revision) = held.await.expect("no panic").expect("an endpoint");
            assert_eq!(revision.endpoints.len(), 1);
        }
        assert_eq!(route(&routes).state.hold.held(), 0);
        let metrics = &routes.metrics().protection.hold;
        assert_eq!((metrics.held.get(), metrics.shed.get()), (0, 1));
        assert_eq!(metrics.duration.get_sample_count(), 2);
        assert!((metrics.duration.get_sample_sum() - 10.0).abs() < 1e-6);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_no_longer_than_it_may_and_not_for_a_route_that_is_gone() {
        let routes = routes(&[]);
        let began = Instant::now();
        let in_time = wait(&routes, 3).await.await.expect("no panic");
        assert_eq!(in_time.err(), Some(NotHeld::NoneCame));
        assert_eq!(began.elapsed(), 3 * SECOND);
        let held = wait(&routes, 30).await;
        routes.replace(&[]);
        assert_eq!(held.await.expect("no panic").err(), Some(NotHeld::NoneCame));
        assert_eq!(began.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_tried_when_it_is_due_and_its_success_wakes_the_rest() {
        let routes = routes(&[URL]);
        let endpoint = Arc::clone(&route(&routes).revisions[0].endpoints[0]);
        let start = Instant::now();
        endpoint.put_out(Cause::Unreachable, start, start);
        let (due, _) = endpoint.out_until().expect("out");
        let prober = wait(&routes, 30).await;
        assert!(prober.await.expect("no panic").is_ok());
        assert!(Instant::now() >= due && Instant::now() < due + SECOND / 100);
        let probe = endpoint.claim_probe(Instant::now()).expect("due");
        let rest = wait(&routes, 30).await;
        tokio::time::advance(5 * SECOND).await;
        assert!(!rest.is_finished(), "while the probe is under way");
        endpoint.succeeded(Instant::now(), Instant::now());
        drop(probe);
        assert!(rest.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_gives_up_its_place() {
        let routes = routes(&[]);
        let held = wait(&routes, 30).await;
        held.abort();
        assert!(held.await.is_err());
        assert_eq!(route(&routes).state.hold.held(), 0);
    }
}
