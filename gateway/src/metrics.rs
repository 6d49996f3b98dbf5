//! Every series the gateway exports. A name, unit, label or bucket is written here, or in the files beside it, or nowhere.

mod access_log;
mod discovery;
mod lease;
mod mirror;
mod protection;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::metrics::{DURATION_SECONDS, Metrics as Registry};
use plumbline_service::upstream::ConnectionMetrics;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::access::AccessMetrics;
use crate::call::Family;
use crate::config::{Condition, Reason};
pub(crate) use access_log::AccessLogMetrics;
pub(crate) use discovery::DiscoveryMetrics;
use lease::{Lease, Subject, Users};
pub(crate) use mirror::MirrorMetrics;
use mirror::MirrorSeries;
pub(crate) use protection::{HoldMetrics, ProtectionMetrics, RetryMetrics, RevisionMetrics};

/// Upper bounds in seconds for the gateway's own share: 5 µs to 100 ms.
const OVERHEAD_SECONDS: [f64; 14] = [
    0.000_005, 0.000_01, 0.000_02, 0.000_04, 0.000_08, 0.000_15, 0.000_3, 0.000_6, 0.001_2, 0.002_5, 0.005,
    0.01, 0.025, 0.1,
];

/// Statuses with a label value of their own; any other that an endpoint may answer is `other`.
const STATUSES: [u16; 19] = [
    200, 201, 204, 400, 401, 403, 404, 405, 408, 413, 414, 422, 429, 431, 500, 501, 502, 503, 504,
];

/// What an attempt at an endpoint comes to.
const OUTCOMES: [&str; 5] = ["answered", "connect_failed", "closed", "invalid", "given_up"];

/// Every series of the gateway. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Series>);

impl Deref for Metrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Series {
    users: Users,
    requests: IntCounterVec,
    duration: HistogramVec,
    overhead: HistogramVec,
    /// `plumbline_gateway_in_flight`.
    pub(crate) in_flight: IntGauge,
    /// `plumbline_gateway_shed_total{reason="max_in_flight"}`.
    pub(crate) shed_max_in_flight: IntCounter,
    pub(crate) protection: ProtectionMetrics,
    /// `plumbline_gateway_routes`.
    pub(crate) routes: IntGauge,
    /// `plumbline_gateway_route_conditions`, in the order of [`Reason::ALL`].
    conditions: [IntGauge; Reason::ALL.len()],
    /// What Kubernetes told.
    pub(crate) discovery: DiscoveryMetrics,
    /// `plumbline_gateway_config_reloads_total{outcome="replaced"}`.
    pub(crate) config_replaced: IntCounter,
    /// `plumbline_gateway_config_reloads_total{outcome="refused"}`.
    pub(crate) config_refused: IntCounter,
    revision_requests: IntCounterVec,
    fallbacks: IntCounterVec,
    mirror: MirrorSeries,
    upstream_requests: IntCounterVec,
    upstream_duration: HistogramVec,
    upstream_pending: IntGaugeVec,
    upstream_retries: IntCounterVec,
    connections_opened: IntCounterVec,
    connections_failed: IntCounterVec,
    connections: IntGaugeVec,
    connect_duration: HistogramVec,
    pub(crate) access: AccessMetrics,
    pub(crate) access_log: AccessLogMetrics,
}

impl Metrics {
    /// Declares every series.
    pub(crate) fn declare(registry: &Registry) -> Self {
        let shed = registry.counter_vec(
            "plumbline_gateway_shed_total",
            "Requests refused without being tried, by reason.",
            &["reason"],
        );
        let [config_replaced, config_refused] = reloads(registry);
        let conditions = registry.int_gauge_vec(
            "plumbline_gateway_route_conditions",
            "What could not be honoured of the configuration or of Kubernetes, by reason; the admin page `/routes` tells of each.",
            &["reason"],
        );
        Self(Arc::new(Series {
            users: Users::default(),
            requests: registry.counter_vec(
                "plumbline_gateway_requests_total",
                "Requests ended, by the HTTP status or gRPC code that the client saw; `aborted` when it left before the end. The model is `unknown` for models without a route and empty for requests that name none.",
                &["model", "protocol", "code"],
            ),
            duration: registry.histogram_vec(
                "plumbline_gateway_request_duration_seconds",
                "Time from a request's head to the last byte of its answer.",
                &["model", "protocol"],
                &DURATION_SECONDS,
            ),
            overhead: registry.histogram_vec(
                "plumbline_gateway_overhead_seconds",
                "Time from a request's head to the head of its answer, less the time spent waiting for the client's first message and for the endpoint.",
                &["model"],
                &OVERHEAD_SECONDS,
            ),
            in_flight: registry.int_gauge(
                "plumbline_gateway_in_flight",
                "Requests admitted whose answer has not ended.",
            ),
            shed_max_in_flight: shed.with_label_values(&["max_in_flight"]),
            protection: ProtectionMetrics::declare(registry, &shed),
            routes: registry.int_gauge("plumbline_gateway_routes", "Models with a route."),
            conditions: Reason::ALL.map(|reason| conditions.with_label_values(&[reason.label()])),
            discovery: DiscoveryMetrics::declare(registry),
            config_replaced,
            config_refused,
            revision_requests: registry.counter_vec(
                "plumbline_gateway_revision_requests_total",
                "Requests by the revision that they were given to.",
                &["model", "revision"],
            ),
            fallbacks: registry.counter_vec(
                "plumbline_gateway_fallbacks_total",
                "Requests that the fallback revision got because theirs had no endpoint to use.",
                &["model"],
            ),
            mirror: MirrorSeries::declare(registry),
            upstream_requests: registry.counter_vec(
                "plumbline_gateway_upstream_requests_total",
                "Attempts at an endpoint, by outcome: answered, connect_failed, closed, invalid, given_up.",
                &["endpoint", "outcome"],
            ),
            upstream_duration: registry.histogram_vec(
                "plumbline_gateway_upstream_duration_seconds",
                "Time to the head of an endpoint's answer, from the end of the request's body or from choosing the endpoint, whichever is later.",
                &["endpoint"],
                &DURATION_SECONDS,
            ),
            upstream_pending: registry.int_gauge_vec(
                "plumbline_gateway_upstream_pending",
                "Requests at an endpoint whose answer has not ended.",
                &["endpoint"],
            ),
            upstream_retries: registry.counter_vec(
                "plumbline_gateway_upstream_retries_total",
                "Attempts after which the request was sent again, to the same revision, because nothing of it had been processed or that does no harm.",
                &["endpoint"],
            ),
            connections_opened: registry.counter_vec(
                "plumbline_gateway_upstream_connections_opened_total",
                "Connections opened to an endpoint.",
                &["endpoint"],
            ),
            connections_failed: registry.counter_vec(
                "plumbline_gateway_upstream_connections_failed_total",
                "Attempts to connect to an endpoint that failed.",
                &["endpoint"],
            ),
            connections: registry.int_gauge_vec(
                "plumbline_gateway_upstream_connections",
                "Open connections to an endpoint.",
                &["endpoint"],
            ),
            connect_duration: registry.histogram_vec(
                "plumbline_gateway_upstream_connect_duration_seconds",
                "Time to open a connection to an endpoint.",
                &["endpoint"],
                &DURATION_SECONDS,
            ),
            access: AccessMetrics::declare(registry),
            access_log: AccessLogMetrics::declare(registry),
        }))
    }

    /// Shows how many conditions there are of each reason.
    pub(crate) fn show_conditions(&self, conditions: &[Condition]) {
        for (reason, gauge) in Reason::ALL.iter().zip(&self.conditions) {
            let count = conditions.iter().filter(|condition| condition.reason == *reason);
            gauge.set(count.count() as i64);
        }
    }

    /// The handles of a model; `unknown` and the empty name stand for requests without a route.
    pub(crate) fn model(&self, model: &str) -> Arc<ModelMetrics> {
        Arc::new(ModelMetrics {
            lease: Lease::new(self, Subject::Model(model.into())),
            model: model.into(),
            overhead: OnceLock::new(),
            by_family: Default::default(),
        })
    }

    /// The handles of a model's revision.
    pub(crate) fn revision(&self, model: &str, revision: &str) -> RevisionMetrics {
        let lease = Lease::new(self, Subject::Revision(model.into(), revision.into()));
        let requests = self.revision_requests.with_label_values(&[model, revision]);
        self.protection.revision(model, revision, lease, requests)
    }

    /// The handles of a model's extra attempts.
    pub(crate) fn retries(&self, model: &str) -> RetryMetrics {
        let lease = Lease::new(self, Subject::Model(model.into()));
        self.protection.retries(model, lease)
    }

    /// The requests of a model that the fallback got.
    pub(crate) fn fallbacks(&self, model: &str) -> IntCounter {
        self.fallbacks.with_label_values(&[model])
    }

    /// The handles of a model's mirror.
    pub(crate) fn mirror(&self, model: &str) -> MirrorMetrics {
        let lease = Lease::new(self, Subject::Model(model.into()));
        MirrorMetrics::new(&self.mirror, model, lease)
    }

    /// The handles of an endpoint.
    pub(crate) fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        let lease = Lease::new(self, Subject::Endpoint(endpoint.into()));
        let [answered, connect_failed, closed, invalid, given_up] =
            OUTCOMES.map(|outcome| self.upstream_requests.with_label_values(&[endpoint, outcome]));
        EndpointMetrics {
            _lease: lease,
            answered,
            connect_failed,
            closed,
            invalid,
            given_up,
            duration: self.upstream_duration.with_label_values(&[endpoint]),
            pending: self.upstream_pending.with_label_values(&[endpoint]),
            retries: self.upstream_retries.with_label_values(&[endpoint]),
            ejected: self.protection.upstream_ejected.with_label_values(&[endpoint]),
            ejections: self.protection.upstream_ejections.with_label_values(&[endpoint]),
            connections: ConnectionMetrics {
                opened: self.connections_opened.with_label_values(&[endpoint]),
                failed: self.connections_failed.with_label_values(&[endpoint]),
                open: self.connections.with_label_values(&[endpoint]),
                connect_seconds: self.connect_duration.with_label_values(&[endpoint]),
            },
        }
    }
}

/// Replaced, refused.
fn reloads(registry: &Registry) -> [IntCounter; 2] {
    let reloads = registry.counter_vec(
        "plumbline_gateway_config_reloads_total",
        "Changes of the configuration file that were read, by outcome: replaced, or refused because something was wrong with it.",
        &["outcome"],
    );
    ["replaced", "refused"].map(|outcome| reloads.with_label_values(&[outcome]))
}

/// What a client saw at the end of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Http(StatusCode),
    Grpc(GrpcCode),
    /// The client left, or the answer broke off.
    Aborted,
}

/// The series of one model. A protocol or a code gets its handle with its first request and keeps it: most models
/// see one protocol and two or three codes, and a series that nobody will ever move is a cost in every scrape.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    lease: Lease,
    pub(crate) model: Box<str>,
    overhead: OnceLock<Histogram>,
    by_family: [OnceLock<Box<FamilyMetrics>>; Family::ALL.len()],
}

#[derive(Debug, Default)]
struct FamilyMetrics {
    duration: OnceLock<Histogram>,
    http: [OnceLock<IntCounter>; STATUSES.len() + 1],
    grpc: [OnceLock<IntCounter>; GrpcCode::ALL.len()],
    aborted: OnceLock<IntCounter>,
}

impl ModelMetrics {
    /// Counts a request that took `duration`.
    pub(crate) fn record(&self, family: Family, ending: Ending, duration: Duration) {
        let metrics = self.by_family[family as usize].get_or_init(Box::default);
        let histogram = metrics.duration.get_or_init(|| {
            self.lease
                .metrics
                .duration
                .with_label_values(&[&self.model, family.label()])
        });
        histogram.observe(duration.as_secs_f64());
        let (slot, code) = match ending {
            Ending::Http(status) => {
                let index = STATUSES.iter().position(|known| *known == status.as_u16());
                match index {
                    Some(index) => (&metrics.http[index], Code::Number(status)),
                    None => (&metrics.http[STATUSES.len()], Code::Text("other")),
                }
            }
            Ending::Grpc(code) => (&metrics.grpc[code.as_i32() as usize], Code::Text(code.name())),
            Ending::Aborted => (&metrics.aborted, Code::Text("aborted")),
        };
        slot.get_or_init(|| self.counter(family, &code)).inc();
    }

    /// Counts the gateway's own share of a request.
    pub(crate) fn observe_overhead(&self, overhead: Duration) {
        let histogram = self
            .overhead
            .get_or_init(|| self.lease.metrics.overhead.with_label_values(&[&self.model]));
        histogram.observe(overhead.as_secs_f64());
    }

    fn counter(&self, family: Family, code: &Code) -> IntCounter {
        let labels = |code: &str| {
            let requests = &self.lease.metrics.requests;
            requests.with_label_values(&[&*self.model, family.label(), code])
        };
        match code {
            Code::Number(status) => labels(status.as_str()),
            Code::Text(text) => labels(text),
        }
    }
}

enum Code {
    Number(StatusCode),
    Text(&'static str),
}

/// The series of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointMetrics {
    _lease: Lease,
    pub(crate) answered: IntCounter,
    pub(crate) connect_failed: IntCounter,
    pub(crate) closed: IntCounter,
    pub(crate) invalid: IntCounter,
    /// Deadline passed or client gone before the answer.
    pub(crate) given_up: IntCounter,
    pub(crate) duration: Histogram,
    pub(crate) pending: IntGauge,
    pub(crate) retries: IntCounter,
    pub(crate) ejected: IntGauge,
    pub(crate) ejections: IntCounter,
    pub(crate) connections: ConnectionMetrics,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_documented() {
        let registry = Registry::default();
        Metrics::declare(&registry);
        plumbline_testkit::documentation::assert_metrics_documented("gateway", &registry.documentation());
    }

    fn rendered(registry: &Registry) -> String {
        String::from_utf8(registry.render()).expect("text")
    }

    #[test]
    fn a_request_is_counted_by_model_protocol_and_code() {
        let registry = Registry::default();
        let model = Metrics::declare(&registry).model("churn");
        let took = Duration::from_micros(300);
        model.record(Family::V2, Ending::Http(StatusCode::OK), took);
        model.record(Family::V2, Ending::Http(StatusCode::OK), took);
        model.record(Family::V2, Ending::Http(StatusCode::GATEWAY_TIMEOUT), took);
        model.record(Family::V2, Ending::Http(StatusCode::IM_A_TEAPOT), took);
        model.record(Family::Grpc, Ending::Grpc(GrpcCode::NotFound), took);
        model.record(Family::V1, Ending::Aborted, took);
        let text = rendered(&registry);
        for expected in [
            r#"plumbline_gateway_requests_total{code="200",model="churn",protocol="v2"} 2"#,
            r#"plumbline_gateway_requests_total{code="504",model="churn",protocol="v2"} 1"#,
            r#"plumbline_gateway_requests_total{code="other",model="churn",protocol="v2"} 1"#,
            r#"plumbline_gateway_requests_total{code="NOT_FOUND",model="churn",protocol="grpc"} 1"#,
            r#"plumbline_gateway_requests_total{code="aborted",model="churn",protocol="v1"} 1"#,
            r#"plumbline_gateway_request_duration_seconds_count{model="churn",protocol="v2"} 4"#,
        ] {
            assert!(text.contains(expected), "missing {expected} in:\n{text}");
        }
    }

    #[test]
    fn every_outcome_of_an_endpoint_is_visible_from_the_start() {
        let registry = Registry::default();
        let _kept = Metrics::declare(&registry).endpoint("http://127.0.0.1:1");
        let text = rendered(&registry);
        for outcome in ["answered", "connect_failed", "closed", "invalid", "given_up"] {
            let series = format!(
                "plumbline_gateway_upstream_requests_total{{endpoint=\"http://127.0.0.1:1\",outcome=\"{outcome}\"}} 0"
            );
            assert!(text.contains(&series), "missing {series} in:\n{text}");
        }
    }
}
