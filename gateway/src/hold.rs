//! Requests that wait for an endpoint of a service that has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use crate::call::Family;
use crate::endpoint::{Cause, Standing};
use crate::metrics::HoldMetrics;
use crate::route::{Revision, Route};
use crate::snapshot::Routes;

/// The place of one route, kept when routes change.
#[derive(Debug)]
pub(crate) struct Hold {
    held: AtomicUsize,
    metrics: HoldMetrics,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: &'a str,
    /// The revision's name. Of a revision that is gone, another takes the place, as it does for a new request.
    pub(crate) revision: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) family: Family,
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
    pub(crate) fn new(metrics: HoldMetrics) -> Self {
        Self {
            held: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Requests that wait.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until the newest of `routes` have an endpoint for the request that may be tried, of the revision that it
    /// wants or of the fallback; `most` requests at a time, each until `until`. Dropping the future gives up the place.
    /// The route and the revision that is wanted.
    pub(crate) async fn wait(
        &self,
        routes: &Routes,
        wanted: Wanted<'_>,
        most: usize,
        until: Instant,
    ) -> Result<(Arc<Route>, Arc<Revision>), NotHeld> {
        let Some(_place) = Place::take(self, most) else {
            self.metrics.shed.inc();
            return Err(NotHeld::Full);
        };
        loop {
            let changed = routes.changes().notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            let next_probe = match wanted.look(routes, now)? {
                Look::Found(route, revision) => return Ok((route, revision)),
                Look::NotYet(next_probe) => next_probe,
            };
            if now >= until {
                return Err(NotHeld::NoneCame);
            }
            let _either_way = timeout_at(next_probe.unwrap_or(until).min(until), changed).await;
        }
    }
}

enum Look {
    Found(Arc<Route>, Arc<Revision>),
    /// When the next probe is due, if that is known.
    NotYet(Option<Instant>),
}

impl Wanted<'_> {
    /// The snapshot that this reads is not kept alive for as long as the wait is.
    fn look(&self, routes: &Routes, now: Instant) -> Result<Look, NotHeld> {
        let snapshot = routes.load();
        let route = snapshot.route(self.model).ok_or(NotHeld::NoneCame)?;
        let mut revisions = route.revisions.iter();
        let same = revisions.find(|revision| *revision.name == *self.revision);
        let Some(revision) = same.or_else(|| route.wanted(self.headers)) else {
            return Ok(Look::NotYet(None));
        };
        let other = route.stand_in(revision);
        let usable = other.is_some_and(|other| other.is_usable(self.family, now));
        if usable || is_reachable(revision, self.family, now) {
            return Ok(Look::Found(Arc::clone(route), Arc::clone(revision)));
        }
        let revisions = [Some(revision), other].into_iter().flatten();
        let endpoints = revisions.flat_map(|revision| revision.endpoints.of(self.family));
        let probes = endpoints.filter_map(|endpoint| endpoint.out_until());
        // While a probe is under way, its end is told.
        let next = probes.map(|(until, _)| until).filter(|until| *until > now).min();
        Ok(Look::NotYet(next))
    }
}

/// Whether a request may be sent: one of the endpoints is in use, may be probed, or fails without being unreachable.
pub(crate) fn is_reachable(revision: &Revision, family: Family, now: Instant) -> bool {
    let mut endpoints = revision.endpoints.of(family).iter();
    endpoints.any(|endpoint| {
        let unreachable = matches!(endpoint.out_until(), Some((_, Cause::Unreachable)));
        !unreachable || endpoint.standing(now) != Standing::Out
    })
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
    use crate::config::{RevisionSpec, RouteSpec};
    use crate::metrics::Metrics;
    use crate::snapshot::Routes;

    const URL: &str = "http://127.0.0.1:1";
    const SECOND: Duration = Duration::from_secs(1);

    fn routes(urls: &[&str]) -> Arc<Routes> {
        let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
        routes.configure_with(&[spec(urls)]);
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

    async fn wait(routes: &Arc<Routes>, seconds: u32) -> Held {
        let (route, routes) = (route(routes), Arc::clone(routes));
        let until = Instant::now() + seconds * SECOND;
        let held = tokio::spawn(async move {
            let wanted = Wanted {
                model: "churn",
                revision: "stable",
                headers: &HeaderMap::new(),
                family: Family::V2,
            };
            route.state.hold.wait(&routes, wanted, 2, until).await
        });
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
        routes.configure_with(&[spec(&[])]);
        tokio::task::yield_now().await;
        assert_eq!(route(&routes).state.hold.held(), 2, "still nothing to send it to");
        routes.discover(vec![Arc::new(spec(&[URL]))], Vec::new());
        tokio::task::yield_now().await;
        assert_eq!(
            route(&routes).state.hold.held(),
            2,
            "the configuration's route comes first"
        );
        routes.configure_with(&[]);
        for held in held {
            let (_, revision) = held.await.expect("no panic").expect("an endpoint");
            assert_eq!(revision.endpoints.of(Family::V2).len(), 1);
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
        routes.configure_with(&[]);
        assert_eq!(held.await.expect("no panic").err(), Some(NotHeld::NoneCame));
        assert_eq!(began.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_tried_when_it_is_due_and_its_success_wakes_the_rest() {
        let routes = routes(&[URL]);
        let endpoint = Arc::clone(&route(&routes).revisions[0].endpoints.of(Family::V2)[0]);
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
    async fn a_fallback_that_can_be_used_again_ends_the_wait() {
        let mut spec = spec(&[]);
        let target = Target::parse_setting(URL).expect("an endpoint");
        spec.revisions.push(RevisionSpec {
            name: "other".to_owned(),
            weight: 0,
            ..RevisionSpec::only(vec![target])
        });
        spec.fallback = Some("other".to_owned());
        let routes = Arc::new(Routes::new(
            Metrics::declare(&Registry::default()),
            Options::default(),
        ));
        routes.configure_with(&[spec]);
        let other = Arc::clone(&route(&routes).revisions[1].endpoints.of(Family::V2)[0]);
        let start = Instant::now();
        other.put_out(Cause::Unreachable, start, start);
        let (due, _) = other.out_until().expect("out");
        let held = wait(&routes, 30).await;
        let (_, revision) = held.await.expect("no panic").expect("the fallback");
        assert_eq!(&*revision.name, "stable", "what is wanted stays what it was");
        assert!(Instant::now() >= due && Instant::now() < due + SECOND / 100);
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
