//! Routes from an API server: what is there is served, what changes is followed, and what goes wrong harms nobody.

mod conditions;
mod following;
mod objects;

use plumbline_gateway::{Kubernetes, RouteSpec};
use plumbline_testkit::kubernetes::{FakeApiServer, inference_service};
use plumbline_testkit::predictor::FakePredictor;
use serde_json::{Value, json};

use crate::support::TestGateway;

const SERVICES: &str = "inferenceservices";
const SLICES: &str = "endpointslices";

/// A gateway that discovers, and the folder of its kubeconfig.
struct Discovering {
    gateway: TestGateway,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Discovering {
    type Target = TestGateway;

    fn deref(&self) -> &TestGateway {
        &self.gateway
    }
}

impl Discovering {
    fn start(server: &FakeApiServer) -> Self {
        Self::start_with(server, Vec::new(), |_| {})
    }

    fn start_with(
        server: &FakeApiServer,
        routes: Vec<RouteSpec>,
        change: impl FnOnce(&mut Kubernetes),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).expect("written");
        let mut kubernetes = Kubernetes {
            kubeconfig: Some(kubeconfig),
            namespaces: Vec::new(),
            selector: None,
            defaults: RouteSpec::new("", Vec::new()),
        };
        change(&mut kubernetes);
        Self {
            gateway: TestGateway::start(routes, |config| config.kubernetes = Some(kubernetes)),
            _folder: folder,
        }
    }

    async fn when_ready(server: &FakeApiServer) -> Self {
        let gateway = Self::start(server);
        gateway.ready().await;
        gateway
    }

    /// Waits until these are all the endpoints there are.
    async fn until_endpoints(&self, predictors: &[&FakePredictor]) {
        let mut expected: Vec<String> = predictors.iter().map(|predictor| predictor.url()).collect();
        expected.sort();
        self.until("/routes", |page| {
            let page: Value = serde_json::from_str(page).expect("JSON");
            let routes = page["routes"].as_array().expect("routes").iter();
            let revisions = routes.flat_map(|route| route["revisions"].as_array().expect("revisions"));
            let mut found: Vec<String> = revisions
                .flat_map(|revision| revision["endpoints"].as_array().expect("endpoints"))
                .map(|endpoint| endpoint["endpoint"].as_str().expect("a text").to_owned())
                .collect();
            found.sort();
            found == expected
        })
        .await;
    }

    async fn until_condition(&self, object: &str, reason: &str) {
        self.until("/routes", |page| has_condition(page, object, reason))
            .await;
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect(name).parse().expect("a number")
    }
}

fn has_condition(page: &str, object: &str, reason: &str) -> bool {
    let page: Value = serde_json::from_str(page).expect("JSON");
    let mut conditions = page["conditions"].as_array().expect("conditions").iter();
    conditions.any(|condition| condition["object"] == object && condition["reason"] == reason)
}

/// A slice of a Service with these predictors, all ready. A slice has one port for all: so each gets its own.
fn slices(service: &str, predictors: &[&FakePredictor]) -> Vec<Value> {
    let slice = |(index, predictor): (usize, &&FakePredictor)| {
        slice(service, index, predictor, json!({"ready": true}))
    };
    predictors.iter().enumerate().map(slice).collect()
}

fn slice(service: &str, index: usize, predictor: &FakePredictor, conditions: Value) -> Value {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "models",
            "name": format!("{service}-{index}"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [predictor.address().ip().to_string()],
            "targetRef": {"kind": "Pod", "namespace": "models", "name": format!("{service}-pod-{index}")},
        }],
        "ports": [{"name": "http1", "port": predictor.address().port(), "protocol": "TCP"}],
    });
    object["endpoints"][0]["conditions"] = conditions;
    object
}

fn apply_all(server: &FakeApiServer, objects: Vec<Value>) {
    for object in objects {
        server.apply(object);
    }
}

async fn serving(model: &str, predictor: &FakePredictor) -> FakeApiServer {
    let server = FakeApiServer::start().await;
    server.apply(inference_service(model));
    apply_all(&server, slices(&format!("{model}-predictor"), &[predictor]));
    server
}
