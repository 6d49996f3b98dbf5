//! Every series the gateway exports. A name, unit, label or bucket is written here or nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::metrics::{DURATION_SECONDS, Metrics as Registry};
use plumbline_service::upstream::ConnectionMetrics;
use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::call::Family;

/// Upper bounds in seconds for the gateway's own share: 5 µs to 100 ms.
const OVERHEAD_SECONDS: [f64; 14] = [
    0.000_005, 0.000_01, 0.000_02, 0.000_04, 0.000_08, 0.000_15, 0.000_3, 0.000_6, 0.001_2, 0.002_5, 0.005,
    0.01, 0.025, 0.1,
];

/// Statuses with a label value of their own; any other that an endpoint may answer is `other`.
const STATUSES: [u16; 19] = [
    200, 201, 204, 400, 401, 403, 404, 405, 408, 413, 414, 422, 429, 431, 500, 501, 502, 503, 504,
];

/// Every series of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    overhead: HistogramVec,
    /// `plumbline_gateway_in_flight`.
    pub(crate) in_flight: IntGauge,
    /// `plumbline_gateway_shed_total{reason="max_in_flight"}`.
    pub(crate) shed_max_in_flight: IntCounter,
    /// `plumbline_gateway_routes`.
    pub(crate) routes: IntGauge,
    /// What Kubernetes told.
    pub(crate) discovery: DiscoveryMetrics,
    upstream_requests: IntCounterVec,
    upstream_duration: HistogramVec,
    upstream_pending: IntGaugeVec,
    upstream_retries: IntCounterVec,
    connections_opened: IntCounterVec,
    connections_failed: IntCounterVec,
    connections: IntGaugeVec,
    connect_duration: HistogramVec,
    /// How many hold the handles of an endpoint: one that leaves and comes back may be there twice for a while.
    endpoints: Arc<Mutex<HashMap<Box<str>, usize>>>,
}

impl Metrics {
    /// Declares every series.
    pub(crate) fn declare(registry: &Registry) -> Self {
        let shed = registry.counter_vec(
            "plumbline_gateway_shed_total",
            "Requests refused without being tried, by reason.",
            &["reason"],
        );
        Self {
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
            routes: registry.int_gauge("plumbline_gateway_routes", "Models with a route."),
            discovery: DiscoveryMetrics {
                staleness: registry.gauge(
                    "plumbline_gateway_discovery_staleness_seconds",
                    "Time since Kubernetes could be followed last; 0 while it is, and where nothing is discovered.",
                ),
                up: registry.int_gauge(
                    "plumbline_gateway_discovery_up",
                    "1 while every collection of Kubernetes is followed.",
                ),
                services: registry.int_gauge(
                    "plumbline_gateway_discovery_services",
                    "InferenceServices found, with a route or without.",
                ),
                conditions: registry.int_gauge_vec(
                    "plumbline_gateway_conditions",
                    "Objects that cannot be honoured in full, by reason; `/discovery` on the admin port names them.",
                    &["reason"],
                ),
            },
            upstream_requests: registry.counter_vec(
                "plumbline_gateway_upstream_requests_total",
                "Attempts at an endpoint, by outcome: answered, connect_failed, closed, invalid, given_up.",
                &["endpoint", "outcome"],
            ),
            upstream_duration: registry.histogram_vec(
                "plumbline_gateway_upstream_duration_seconds",
                "Time from choosing an endpoint to the head of its answer.",
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
                "Attempts after which the request was sent again, because nothing of it had been sent or it was a read.",
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
            endpoints: Arc::default(),
        }
    }

    /// The handles of a model; `unknown` and the empty name stand for requests without a route.
    pub(crate) fn model(&self, model: &str) -> Arc<ModelMetrics> {
        Arc::new(ModelMetrics {
            model: model.into(),
            overhead: self.overhead.with_label_values(&[model]),
            by_family: Family::ALL.map(|_| FamilyMetrics::default()),
            requests: self.requests.clone(),
            duration: self.duration.clone(),
        })
    }

    /// The handles of an endpoint, until [`Self::forget_endpoint`].
    pub(crate) fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        *self.endpoints().entry(endpoint.into()).or_default() += 1;
        let outcome = |outcome| self.upstream_requests.with_label_values(&[endpoint, outcome]);
        EndpointMetrics {
            answered: outcome("answered"),
            connect_failed: outcome("connect_failed"),
            closed: outcome("closed"),
            invalid: outcome("invalid"),
            given_up: outcome("given_up"),
            duration: self.upstream_duration.with_label_values(&[endpoint]),
            pending: self.upstream_pending.with_label_values(&[endpoint]),
            retries: self.upstream_retries.with_label_values(&[endpoint]),
            connections: ConnectionMetrics {
                opened: self.connections_opened.with_label_values(&[endpoint]),
                failed: self.connections_failed.with_label_values(&[endpoint]),
                open: self.connections.with_label_values(&[endpoint]),
                connect_seconds: self.connect_duration.with_label_values(&[endpoint]),
            },
        }
    }
}

/// The series of discovery.
#[derive(Clone, Debug)]
pub(crate) struct DiscoveryMetrics {
    pub(crate) staleness: Gauge,
    pub(crate) up: IntGauge,
    pub(crate) services: IntGauge,
    pub(crate) conditions: IntGaugeVec,
}

impl Metrics {
    /// Gives an endpoint's handles back. Its series end with the last of them.
    pub(crate) fn forget_endpoint(&self, endpoint: &str) {
        let mut endpoints = self.endpoints();
        let Some(count) = endpoints.get_mut(endpoint) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        endpoints.remove(endpoint);
        // Those without a value have no series to remove.
        for outcome in OUTCOMES {
            let _none = self.upstream_requests.remove_label_values(&[endpoint, outcome]);
        }
        for counter in [
            &self.upstream_retries,
            &self.connections_opened,
            &self.connections_failed,
        ] {
            let _none = counter.remove_label_values(&[endpoint]);
        }
        for gauge in [&self.upstream_pending, &self.connections] {
            let _none = gauge.remove_label_values(&[endpoint]);
        }
        for histogram in [&self.upstream_duration, &self.connect_duration] {
            let _none = histogram.remove_label_values(&[endpoint]);
        }
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an attempt at an endpoint ends.
const OUTCOMES: [&str; 5] = ["answered", "connect_failed", "closed", "invalid", "given_up"];

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
    pub(crate) model: Box<str>,
    pub(crate) overhead: Histogram,
    by_family: [FamilyMetrics; Family::ALL.len()],
    requests: IntCounterVec,
    duration: HistogramVec,
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
        let metrics = &self.by_family[family as usize];
        let histogram = metrics
            .duration
            .get_or_init(|| self.duration.with_label_values(&[&self.model, family.label()]));
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

    fn counter(&self, family: Family, code: &Code) -> IntCounter {
        let labels = |code: &str| {
            self.requests
                .with_label_values(&[&*self.model, family.label(), code])
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
#[derive(Clone, Debug)]
pub(crate) struct EndpointMetrics {
    pub(crate) answered: IntCounter,
    pub(crate) connect_failed: IntCounter,
    pub(crate) closed: IntCounter,
    pub(crate) invalid: IntCounter,
    /// Deadline passed or client gone before the answer.
    pub(crate) given_up: IntCounter,
    pub(crate) duration: Histogram,
    pub(crate) pending: IntGauge,
    pub(crate) retries: IntCounter,
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
    fn the_series_of_an_endpoint_end_with_the_last_who_holds_them() {
        let registry = Registry::default();
        let metrics = Metrics::declare(&registry);
        let url = "http://127.0.0.1:1";
        let (first, _second) = (metrics.endpoint(url), metrics.endpoint(url));
        first.duration.observe(0.1);
        metrics.forget_endpoint(url);
        assert!(rendered(&registry).contains(url));
        metrics.forget_endpoint(url);
        assert!(!rendered(&registry).contains(url));
    }

    #[test]
    fn every_outcome_of_an_endpoint_is_visible_from_the_start() {
        let registry = Registry::default();
        Metrics::declare(&registry).endpoint("http://127.0.0.1:1");
        let text = rendered(&registry);
        for outcome in OUTCOMES {
            let series = format!(
                "plumbline_gateway_upstream_requests_total{{endpoint=\"http://127.0.0.1:1\",outcome=\"{outcome}\"}} 0"
            );
            assert!(text.contains(&series), "missing {series} in:\n{text}");
        }
    }
}
