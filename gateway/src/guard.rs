//! Takes the traffic from canaries that are worse than the stable revision. Only a person gives it back.
//!
//! Each second the counts of both revisions become evidence in a `judge`; `drift` asks the sidecars. A canary that is worse is
//! in `stops` from then on, across restarts: a snapshot that is built gives it no weight. The worker is told by event.

mod drift;
mod judge;
mod stops;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use plumbline_drift::report::{CANARY_STOPPED, CanaryCause, CanaryEvent, RevisionSeen};
use plumbline_service::admin::{Admin, Page, text};
use plumbline_service::{EventSink, Shutdown};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::protection::RevisionState;
use crate::route::{Revision, Route};
use crate::snapshot::Routes;
use judge::Judge;
pub(crate) use stops::{Canary, Stop, Stops};

/// Time between two looks at the counts.
const LOOK: Duration = Duration::from_secs(1);
/// Where a person gives a canary its traffic back.
const RESUME: &str = "/canaries/resume";

/// Stops canaries, and tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    routes: Arc<Routes>,
    /// The part of the name of events that tells this gateway's from another's.
    source: Arc<str>,
}

impl Guard {
    /// A guard of these routes; a person resumes canaries on the admin port. Events come from `source`.
    pub(crate) fn new(routes: Arc<Routes>, admin: &Admin, source: &str) -> Self {
        admin.action(RESUME, {
            let routes = Arc::clone(&routes);
            move |query| resume(&routes, query)
        });
        Self {
            routes,
            source: source.into(),
        }
    }

    /// Guards until the process shuts down.
    pub(crate) async fn run(self, sink: Option<EventSink>, shutdown: Shutdown) {
        let judging = self.judge();
        let asking = drift::watch(&self);
        let telling = async {
            match sink {
                Some(sink) => self.tell(&sink).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = judging => {}
            () = asking => {}
            () = telling => {}
            () = shutdown.stop_accepting() => {}
        }
    }

    async fn judge(&self) {
        let mut judges: HashMap<Canary, (Arc<RevisionState>, Judge)> = HashMap::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let mut before = std::mem::take(&mut judges);
            for (route, canary, stable) in self.guarded() {
                let Some(spec) = &route.spec.guard else { continue };
                let counts = || [canary.state.counts(), stable.state.counts()];
                let key = (route.model.clone(), canary.name.clone());
                let known = before
                    .remove(&key)
                    .filter(|(state, _)| Arc::ptr_eq(state, &canary.state));
                let Some((state, mut judge)) = known else {
                    judges.insert(key, (Arc::clone(&canary.state), Judge::new(counts())));
                    continue;
                };
                judge.look(counts());
                let Some(verdict) = judge.verdict(spec) else {
                    judges.insert(key, (state, judge));
                    continue;
                };
                let seen = judge.seen([&canary.name, &stable.name]);
                self.stop(&route, seen, verdict.cause, Some(verdict.log10_evidence));
            }
        }
    }

    /// Every canary that has traffic and is to be guarded, with the revision that it is compared with.
    fn guarded(&self) -> Vec<(Arc<Route>, Arc<Revision>, Arc<Revision>)> {
        let snapshot = self.routes.load();
        let mut guarded = Vec::new();
        for route in snapshot.all() {
            let Some(guard) = &route.spec.guard else { continue };
            let stable = route
                .revisions
                .iter()
                .find(|revision| *revision.name == *guard.stable);
            let Some(stable) = stable else { continue };
            let canaries = route.revisions.iter().filter(|canary| canary.weight > 0);
            for canary in canaries.filter(|canary| !Arc::ptr_eq(canary, stable)) {
                guarded.push((Arc::clone(route), Arc::clone(canary), Arc::clone(stable)));
            }
        }
        guarded
    }

    fn stop(&self, route: &Route, seen: [RevisionSeen; 2], cause: CanaryCause, log10_evidence: Option<f64>) {
        let [canary, stable] = seen;
        let event = CanaryEvent {
            model: route.model.as_ref().to_owned(),
            object: route.spec.object.clone(),
            canary,
            stable,
            cause,
            at_unix_ms: jiff::Timestamp::now().as_millisecond(),
            log10_evidence,
        };
        tracing::error!(
            model.name = event.model,
            canary = event.canary.revision,
            stable = event.stable.revision,
            problem = described(&event),
            "the canary gets no more traffic"
        );
        if self.routes.stops().add(event) {
            self.routes
                .metrics()
                .protection
                .canary_stopped(&route.model, cause);
            self.routes.look_again();
        }
    }

    /// Tells the worker of each stop until it has taken it.
    async fn tell(&self, sink: &EventSink) {
        let stops = self.routes.stops();
        loop {
            let Some(stop) = stops.next_untold() else {
                stops.untold.notified().await;
                continue;
            };
            let model = &stop.event.model;
            let event = self.cloud_event(&stop.event);
            let taken = sink.deliver(&event, |failed, reason| {
                if failed == 1 {
                    tracing::warn!(model.name = model, reason, "event not delivered yet");
                }
            });
            if let Err(status) = taken.await {
                tracing::error!(model.name = model, %status, "the worker refuses the event; it is dropped");
            }
            stops.told(&stop);
        }
    }

    fn cloud_event(&self, event: &CanaryEvent) -> Bytes {
        let CanaryEvent {
            model,
            canary,
            at_unix_ms,
            ..
        } = event;
        let time = jiff::Timestamp::from_millisecond(*at_unix_ms).unwrap_or_default();
        let event = json!({
            "specversion": "1.0",
            "id": format!("{model}/{}@{at_unix_ms}", canary.revision),
            "source": &*self.source,
            "type": CANARY_STOPPED,
            "subject": model,
            "time": time.to_string(),
            "datacontenttype": "application/json",
            "data": event,
        });
        event.to_string().into()
    }
}

/// What was found, for people.
pub(crate) fn described(event: &CanaryEvent) -> String {
    let CanaryEvent { canary, stable, .. } = event;
    let percent = |seen: &RevisionSeen| format!("{:.1} %", seen.failed * 100.0);
    let tail = |seen: &RevisionSeen| {
        seen.p95_ms
            .map_or("unknown".to_owned(), |ms| format!("{ms:.1} ms"))
    };
    match event.cause {
        CanaryCause::Errors => format!(
            "{} of its answers fail, {} of those of `{}`",
            percent(canary),
            percent(stable),
            stable.revision
        ),
        CanaryCause::Latency => format!(
            "the 95th percentile of its latency is {}, that of `{}` {}",
            tail(canary),
            stable.revision,
            tail(stable)
        ),
        CanaryCause::Drift => format!("its sidecar sees drift, that of `{}` does not", stable.revision),
    }
}

/// What a `POST` with `model` and `revision` does.
fn resume(routes: &Routes, query: &str) -> Page {
    let value = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    let (Some(model), Some(revision)) = (value("model"), value("revision")) else {
        return text(StatusCode::BAD_REQUEST, "expected ?model=NAME&revision=NAME\n");
    };
    if !routes.stops().remove(&model, &revision) {
        let problem = format!("revision `{revision}` of model `{model}` is not stopped\n");
        return text(StatusCode::NOT_FOUND, problem);
    }
    tracing::warn!(
        model.name = model,
        canary = revision,
        "a person gives the canary its traffic back"
    );
    routes.look_again();
    text(
        StatusCode::OK,
        format!("revision `{revision}` of model `{model}` has its traffic again\n"),
    )
}
