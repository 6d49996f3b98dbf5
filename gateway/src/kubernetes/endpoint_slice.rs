//! EndpointSlice, `discovery.k8s.io/v1`: where the pods behind a Service listen, and which of them take new requests.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::object::{Kind, or_default, read};

/// What we keep of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointSlice {
    /// The Service that it belongs to; empty when it says none.
    pub(super) service: Box<str>,
    /// Its addresses are host names, which the API has deprecated.
    pub(super) has_names: bool,
    pub(super) ports: Ports,
    /// Those that take new requests.
    pub(super) ready: Vec<Address>,
    /// How many do not.
    pub(super) unready: usize,
}

/// An address, and the pod that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    /// Tells that addresses of both families belong to one pod; empty when the slice does not say.
    pub(super) pod: Box<str>,
}

/// Which ports a slice has for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) rest: Option<u16>,
    pub(super) grpc: Option<u16>,
}

impl Kind for EndpointSlice {
    const API: &'static str = "/apis/discovery.k8s.io/v1";
    const PLURAL: &'static str = "endpointslices";

    fn read(object: Value) -> Result<Self, String> {
        read::<Wire>(object).map(Self::from)
    }
}

impl From<Wire> for EndpointSlice {
    fn from(wire: Wire) -> Self {
        let has_names = &*wire.address_type == "FQDN";
        let mut unready = 0;
        let mut ready = Vec::new();
        for endpoint in wire.endpoints {
            if !endpoint.conditions.takes_requests() {
                unready += 1;
                continue;
            }
            // All addresses of an endpoint are the same pod: the first is as good as any.
            let ip = endpoint.addresses.first().filter(|_| !has_names);
            let ip = ip.and_then(|address| address.parse().ok());
            let pod = endpoint.target_ref.name;
            ready.extend(ip.map(|ip| Address { ip, pod }));
        }
        ready.shrink_to_fit();
        Self {
            service: wire.metadata.labels.service,
            has_names,
            ports: Ports::of(&wire.ports),
            ready,
            unready,
        }
    }
}

impl Ports {
    /// gRPC has the port that says so, and everything else the first other one; a single port has everything.
    fn of(ports: &[Port]) -> Self {
        let find = |grpc: bool| {
            let mut usable = ports.iter().filter(|port| port.is_for_requests());
            usable
                .find(|port| port.is_grpc() == grpc)
                .and_then(|port| port.number)
        };
        Self {
            rest: find(false),
            grpc: find(true),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: Metadata,
    address_type: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    labels: Labels,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "kubernetes.io/service-name", default)]
    service: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    #[serde(default, deserialize_with = "or_default")]
    target_ref: TargetRef,
}

#[derive(Default, Deserialize)]
struct TargetRef {
    #[serde(default)]
    name: Box<str>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Conditions {
    /// What is not said is ready. `ready` alone is true for a Service that publishes addresses that are not.
    fn takes_requests(&self) -> bool {
        self.ready != Some(false) && self.serving != Some(false) && self.terminating != Some(true)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default, deserialize_with = "or_default")]
    name: Box<str>,
    #[serde(rename = "port")]
    number: Option<u16>,
    protocol: Option<Box<str>>,
    app_protocol: Option<Box<str>>,
}

impl Port {
    /// Neither TLS, which endpoints are not spoken to with, nor a port of the pod's helpers.
    fn is_for_requests(&self) -> bool {
        let tcp = self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let tls = self.app_protocol.as_deref() == Some("https") || self.name.starts_with("https");
        // Knative's `http-autometric`, `http-usermetric` and `http-queueadm`; KServe's `aggr-metric`.
        let helper = self.name.contains("metric") || self.name.ends_with("queueadm");
        tcp && !tls && !helper && self.number.is_some_and(|port| port > 0)
    }

    /// KServe's names (`h2c`, `grpc-port`) and the well-known protocols. Knative's `http2` is its only port.
    fn is_grpc(&self) -> bool {
        let says = |text: &str| text.contains("grpc") || text.contains("h2c") || text == "http2";
        says(&self.name) || self.app_protocol.as_deref().is_some_and(says)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: Value, ports: Value) -> EndpointSlice {
        let mut object = json!({
            "metadata": {"name": "iris-predictor-x7", "labels": {"kubernetes.io/service-name": "iris-predictor"}},
            "addressType": "IPv4",
        });
        object["endpoints"] = endpoints;
        object["ports"] = ports;
        EndpointSlice::read(object).expect("readable")
    }

    fn ports(ports: Value) -> (Option<u16>, Option<u16>) {
        let ports = slice(json!([]), ports).ports;
        (ports.rest, ports.grpc)
    }

    #[test]
    fn only_endpoints_that_are_ready_and_stay_get_requests() {
        for (conditions, usable) in [
            (json!({}), true),
            (Value::Null, true),
            (
                json!({"ready": true, "serving": true, "terminating": false}),
                true,
            ),
            (json!({"ready": false}), false),
            (
                json!({"ready": false, "serving": true, "terminating": true}),
                false,
            ),
            (json!({"ready": true, "serving": false}), false),
            (json!({"ready": true, "terminating": true}), false),
        ] {
            let endpoint = json!([{"addresses": ["10.0.0.7"], "conditions": conditions}]);
            let slice = slice(endpoint, json!([]));
            assert_eq!(
                (slice.ready.len(), slice.unready),
                (usize::from(usable), usize::from(!usable))
            );
        }
    }

    #[test]
    fn grpc_has_a_port_of_its_own_where_one_says_so() {
        assert_eq!(
            ports(json!([{"name": "http1", "port": 8080}])),
            (Some(8080), None)
        );
        for (name, app_protocol) in [
            ("h2c", Value::Null),
            ("grpc-port", Value::Null),
            ("http2", Value::Null),
            ("predict", json!("kubernetes.io/h2c")),
            ("predict", json!("grpc")),
        ] {
            let grpc = json!({"name": name, "appProtocol": app_protocol, "port": 9000, "protocol": "TCP"});
            assert_eq!(ports(json!([grpc])), (None, Some(9000)));
            let rest = json!({"name": "", "port": 8080});
            assert_eq!(ports(json!([grpc, rest])), (Some(8080), Some(9000)));
        }
    }

    #[test]
    fn ports_that_are_not_for_requests_are_passed_over() {
        assert_eq!(
            ports(json!([
                {"name": "http-autometric", "port": 9090},
                {"name": "http-queueadm", "port": 8022},
                {"name": "https", "port": 8112},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "any", "port": null},
                {"name": "http", "port": 8012},
            ])),
            (Some(8012), None)
        );
        assert_eq!(ports(Value::Null), (None, None));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_place() {
        let error = EndpointSlice::read(json!({
            "metadata": {},
            "addressType": "IPv4",
            "endpoints": [{"addresses": "10.0.0.7"}],
        }));
        let error = error.expect_err("malformed");
        assert!(error.starts_with("endpoints[0].addresses: "), "{error}");
    }
}
