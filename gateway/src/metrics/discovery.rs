//! The series of discovery.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{Gauge, IntGauge};

#[derive(Clone, Debug)]
pub(crate) struct DiscoveryMetrics {
    pub(crate) staleness: Gauge,
    pub(crate) up: IntGauge,
    pub(crate) services: IntGauge,
}

impl DiscoveryMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        Self {
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
        }
    }
}
