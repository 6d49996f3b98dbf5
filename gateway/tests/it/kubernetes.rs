//! Routes from an API server: what is there is served, what changes is followed, and what goes wrong harms nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use plumbline_gateway::{Kubernetes, RouteSpec};
use plumbline_testkit::kubernetes::FakeApiServer;
use plumbline_testkit::predictor::{FakePredictor, RefusingPort};
use serde_json::{Value, json};

use crate::support::{Grpc, TestGateway, churn, grpc_infer, infer};

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

    async fn ready(server: &FakeApiServer) -> Self {
        let gateway = Self::start(server);
        gateway.until_ready().await;
        gateway
    }

    async fn until_ready(&self) {
        let mut changes = self.readiness().watch();
        while !self.readiness().is_ready() {
            changes.changed().await.expect("the process lives");
        }
    }

    /// Waits until a page of the admin port says so: the routes are replaced beside us.
    async fn until(&self, path: &str, holds: impl Fn(&str) -> bool) {
        loop {
            let page = self.admin(path).await;
            if holds(&page) {
                return;
            }
            tokio::task::yield_now().await;
        }
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

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"namespace": "models", "name": name, "creationTimestamp": "2026-11-01T08:00:00Z"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/x"}}},
        "status": {
            "deploymentMode": "Standard",
            "url": format!("http://{name}-models.example.com"),
            "components": {"predictor": {"url": format!("http://{name}-predictor-models.example.com")}},
        },
    })
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
    server.apply(service(model));
    apply_all(&server, slices(&format!("{model}-predictor"), &[predictor]));
    server
}

/// Requests one after the other, until told to stop; how many failed.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<StatusCode>>,
}

impl Load {
    async fn start(gateway: &TestGateway, model: &'static str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut client = gateway.http1().await;
        let task = tokio::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    client.ready().await.expect("the connection is kept");
                    let answer = client.send_request(infer(model)).await.expect("an answer");
                    let status = answer.status();
                    crate::support::text(answer).await;
                    if status != StatusCode::OK {
                        failed.push(status);
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                failed
            }
        });
        Self { stop, sent, task }
    }

    /// Waits for that many more requests.
    async fn more(&self, count: usize) {
        let until = self.sent.load(Ordering::Relaxed) + count;
        while self.sent.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
    }

    async fn failed(self) -> Vec<StatusCode> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load ends")
    }
}

#[tokio::test]
async fn a_model_is_served_where_its_endpoint_slices_say() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let gateway = Discovering::ready(&server).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!(gateway.infer("iris").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(predictor.received_so_far(), 1);

    let other = FakePredictor::echo().await;
    server.apply(service("iris"));
    apply_all(&server, slices("iris-predictor", &[&other]));
    gateway.until_endpoints(&[&predictor, &other]).await;
    assert_eq!(gateway.infer("iris").await.status(), StatusCode::OK);
    assert_eq!(other.received_so_far(), 1);

    server.delete(SERVICES, "models", "churn");
    gateway.until_endpoints(&[&other]).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_hosts_of_its_urls_lead_to_a_model_but_not_the_predictors_behind_a_transformer() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let mut transformed = service("iris");
    transformed["spec"]["transformer"] = json!({});
    transformed["status"]["components"]["transformer"] =
        json!({"url": "http://iris-transformer-models.example.com"});
    server.apply(transformed);
    apply_all(&server, slices("iris-transformer", &[&predictor]));
    let gateway = Discovering::ready(&server).await;
    for (host, expected) in [
        ("churn-models.example.com", StatusCode::OK),
        ("churn-predictor-models.example.com", StatusCode::OK),
        ("iris-models.example.com", StatusCode::OK),
        ("iris-transformer-models.example.com", StatusCode::OK),
        ("iris-predictor-models.example.com", StatusCode::NOT_FOUND),
    ] {
        let mut request = infer("a-name-of-its-own");
        request
            .headers_mut()
            .insert("host", host.parse().expect("a value"));
        assert_eq!(gateway.send(request).await.status(), expected, "{host}");
    }
}

#[tokio::test]
async fn it_is_ready_when_every_kind_has_been_listed_and_not_before() {
    let server = FakeApiServer::start().await;
    server.go_away().await;
    let gateway = Discovering::start(&server);
    assert_eq!(gateway.readiness().pending(), ["first list of Kubernetes"]);
    assert!(
        gateway
            .admin("/metrics")
            .await
            .contains("plumbline_gateway_discovery_up 0")
    );
    server.come_back();
    gateway.until_ready().await;
    assert_eq!((server.lists(SERVICES), server.lists(SLICES)), (1, 1));
}

#[tokio::test]
async fn a_terminating_or_unready_endpoint_gets_no_new_requests() {
    let (good, leaving) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &good).await;
    server.apply(slice(
        "churn-predictor",
        1,
        &leaving,
        json!({"ready": true, "serving": true}),
    ));
    let gateway = Discovering::ready(&server).await;
    gateway.until_endpoints(&[&good, &leaving]).await;
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    server.apply(slice("churn-predictor", 1, &leaving, terminating));
    gateway.until_endpoints(&[&good]).await;
    let before = leaving.received_so_far();
    for _ in 0..20 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!((good.received_so_far(), leaving.received_so_far()), (20, before));
}

#[tokio::test]
async fn a_service_without_endpoints_keeps_its_route() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let gateway = Discovering::ready(&server).await;
    server.apply(slice("churn-predictor", 0, &predictor, json!({"ready": false})));
    gateway.until_endpoints(&[]).await;
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    server.delete(SLICES, "models", "churn-predictor-0");
    gateway.until_condition("models/churn", "no_service").await;
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        gateway
            .metric(r#"plumbline_gateway_route_conditions{reason="no_service"}"#)
            .await,
        1.0
    );
    apply_all(&server, slices("churn-predictor", &[&predictor]));
    gateway.until_endpoints(&[&predictor]).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!(
        gateway
            .metric(r#"plumbline_gateway_route_conditions{reason="no_service"}"#)
            .await,
        0.0
    );
}

#[tokio::test]
async fn knative_shares_of_revisions_are_kept_and_each_is_named_to_the_activator() {
    let (old, new) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = FakeApiServer::start().await;
    let mut churn = service("churn");
    churn["status"]["deploymentMode"] = "Knative".into();
    churn["status"]["components"]["predictor"] = json!({
        "latestReadyRevision": "churn-predictor-00002",
        "traffic": [
            {"revisionName": "churn-predictor-00002", "latestRevision": true, "percent": 10},
            {"revisionName": "churn-predictor-00001", "latestRevision": false, "percent": 90, "tag": "prev"},
        ],
    });
    server.apply(churn);
    apply_all(&server, slices("churn-predictor-00001", &[&old]));
    apply_all(&server, slices("churn-predictor-00002", &[&new]));
    let gateway = Discovering::ready(&server).await;
    for _ in 0..100 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert!(
        new.received_so_far().abs_diff(10) <= 2,
        "{} of 100",
        new.received_so_far()
    );
    let request = &new.received(1).await[0];
    assert_eq!(
        request.header("knative-serving-revision"),
        "churn-predictor-00002"
    );
    assert_eq!(request.header("knative-serving-namespace"), "models");
}

#[tokio::test]
async fn canaries_of_standard_mode_have_services_and_shares_of_their_own() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &stable).await;
    let mut churn = service("churn");
    churn["spec"]["canary"] = json!([{"predictor": {"name": "v2"}, "trafficPercent": 20}]);
    server.apply(churn);
    let gateway = Discovering::ready(&server).await;
    gateway.until_condition("models/churn", "canary_not_ready").await;
    for _ in 0..10 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    apply_all(&server, slices("churn-v2-predictor", &[&canary]));
    gateway.until_endpoints(&[&stable, &canary]).await;
    for _ in 0..100 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert!(
        canary.received_so_far().abs_diff(20) <= 2,
        "{} of 100",
        canary.received_so_far()
    );
}

#[tokio::test]
async fn grpc_goes_to_the_port_that_says_so() {
    let (rest, grpc) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = FakeApiServer::start().await;
    server.apply(service("churn"));
    let mut slice = slice("churn-predictor", 0, &rest, json!({}));
    slice["ports"] = json!([
        {"name": "http", "port": rest.address().port(), "protocol": "TCP"},
        {"name": "h2c", "port": grpc.address().port(), "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
    ]);
    server.apply(slice);
    let gateway = Discovering::ready(&server).await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    let answer = gateway
        .http2()
        .await
        .send_request(grpc_infer("churn"))
        .await
        .expect("an answer");
    Grpc::of(answer).await;
    assert_eq!((rest.received_so_far(), grpc.received_so_far()), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_honoured_is_a_condition_and_harms_no_other_route() {
    let predictor = FakePredictor::echo().await;
    let server = serving("good", &predictor).await;
    let with = |name: &str, change: fn(&mut Value)| {
        let mut object = service(name);
        change(&mut object);
        server.apply(object);
    };
    with("malformed", |object| object["spec"]["predictor"] = "none".into());
    with("mesh", |object| {
        object["status"]["deploymentMode"] = "ModelMesh".into();
    });
    with("percent", |object| {
        object["spec"]["predictor"]["canaryTrafficPercent"] = 10.into();
    });
    with("unknown", |_| {});
    with("second", |object| {
        object["metadata"]["creationTimestamp"] = "2026-11-02T08:00:00Z".into();
        object["spec"]["predictor"]["model"]["args"] = json!(["--model_name=good"]);
    });
    with("portless", |_| {});
    let mut portless = slice("portless-predictor", 0, &predictor, json!({}));
    portless["ports"] = json!([]);
    server.apply(portless);
    with("explained", |object| object["spec"]["explainer"] = json!({}));
    let mut named = slice("explained-predictor", 0, &predictor, json!({}));
    named["addressType"] = "FQDN".into();
    server.apply(named);
    let gateway = Discovering::ready(&server).await;
    let page = gateway.admin("/routes").await;
    for (name, reason) in [
        ("malformed", "malformed"),
        ("mesh", "unsupported_mode"),
        ("percent", "canary_not_honoured"),
        ("percent", "no_service"),
        ("unknown", "model_name_invalid"),
        ("second", "model_name_taken"),
        ("portless", "no_port"),
        ("explained", "explainer_not_routed"),
        ("explained", "address_type"),
    ] {
        assert!(
            has_condition(&page, &format!("models/{name}"), reason),
            "{name}, {reason}: {page}"
        );
    }
    assert!(
        page.contains("spec.predictor: "),
        "the place of what is malformed is told: {page}"
    );
    assert_eq!(gateway.infer("good").await.status(), StatusCode::OK);
    assert_eq!(gateway.infer("malformed").await.status(), StatusCode::NOT_FOUND);

    // One that was good before goes on as it was, and its endpoints are followed.
    let mut broken = service("good");
    broken["spec"] = json!({});
    server.apply(broken);
    gateway.until_condition("models/good", "malformed").await;
    let other = FakePredictor::echo().await;
    server.apply(slice("good-predictor", 0, &other, json!({})));
    gateway.until_endpoints(&[&other]).await;
    assert_eq!(gateway.infer("good").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_configuration_wins_over_an_object() {
    let (of_file, of_object) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &of_object).await;
    let gateway = Discovering::start_with(&server, vec![churn(&[of_file.url()])], |_| {});
    gateway.until_ready().await;
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    assert_eq!((of_file.received_so_far(), of_object.received_so_far()), (1, 0));
    assert!(has_condition(
        &gateway.admin("/routes").await,
        "models/churn",
        "model_name_taken"
    ));
}

#[tokio::test]
async fn only_the_namespaces_and_labels_that_were_asked_for_are_looked_at() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let mut selected = service("iris");
    selected["metadata"]["labels"] = json!({"tier": "gold"});
    server.apply(selected);
    let gateway = Discovering::start_with(&server, Vec::new(), |kubernetes| {
        kubernetes.namespaces = vec!["models".to_owned(), "other".to_owned()];
        kubernetes.selector = Some("tier=gold".to_owned());
    });
    gateway.until_ready().await;
    assert_eq!((server.lists(SERVICES), server.lists(SLICES)), (2, 2));
    assert_eq!(gateway.infer("churn").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        gateway.infer("iris").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn history_that_is_forgotten_is_listed_again() {
    let (first, second) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &first).await;
    let gateway = Discovering::ready(&server).await;
    server.watched(SERVICES, 1).await;
    server.watched(SLICES, 1).await;
    let load = Load::start(&gateway, "churn").await;
    load.more(10).await;
    server.expire();
    server.listed(SERVICES, 2).await;
    server.listed(SLICES, 2).await;
    server.apply(slice("churn-predictor", 1, &second, json!({})));
    gateway.until_endpoints(&[&first, &second]).await;
    load.more(10).await;
    assert_eq!(load.failed().await, Vec::<StatusCode>::new());
}

#[tokio::test]
async fn a_connection_that_breaks_within_an_event_goes_on_from_the_one_before() {
    let (first, second) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &first).await;
    let gateway = Discovering::ready(&server).await;
    server.watched(SLICES, 1).await;
    server.cut(slice("churn-predictor", 1, &second, json!({})));
    server.watched(SLICES, 2).await;
    gateway.until_endpoints(&[&first, &second]).await;
    assert_eq!(server.lists(SLICES), 1, "nothing is listed again");
}

#[tokio::test]
async fn after_a_bookmark_a_watch_goes_on_from_it() {
    let (first, second) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &first).await;
    let gateway = Discovering::ready(&server).await;
    server.watched(SLICES, 1).await;
    server.apply(slice("churn-predictor", 1, &second, json!({})));
    gateway.until_endpoints(&[&first, &second]).await;
    server.bookmark();
    server.apply(slice("churn-predictor", 1, &second, json!({"ready": false})));
    gateway.until_endpoints(&[&first]).await;
    server.go_away().await;
    server.come_back();
    server.watched(SLICES, 2).await;
    assert_eq!(server.lists(SLICES), 1, "nothing is listed again");
}

#[tokio::test]
async fn repeated_events_change_nothing_and_late_ones_do_not_undo() {
    let (first, second) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let server = serving("churn", &first).await;
    let gateway = Discovering::ready(&server).await;
    server.watched(SLICES, 1).await;
    let mut late = slice("churn-predictor", 0, &first, json!({}));
    late["metadata"]["resourceVersion"] = "1".into();
    let new = slice("churn-predictor", 0, &second, json!({}));
    server.apply(new.clone());
    gateway.until_endpoints(&[&second]).await;
    let mut repeated = new;
    repeated["metadata"]["resourceVersion"] = "3".into();
    server.tell("MODIFIED", &repeated);
    server.tell("ADDED", &repeated);
    server.tell("MODIFIED", &late);
    let third = FakePredictor::echo().await;
    server.apply(slice("churn-predictor", 1, &third, json!({})));
    gateway.until_endpoints(&[&second, &third]).await;
}

#[tokio::test]
async fn requests_do_not_notice_that_the_api_server_is_gone() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let gateway = Discovering::ready(&server).await;
    server.watched(SERVICES, 1).await;
    server.watched(SLICES, 1).await;
    gateway
        .until("/metrics", |page| {
            page.contains("plumbline_gateway_discovery_up 1")
        })
        .await;
    assert_eq!(
        gateway
            .metric("plumbline_gateway_discovery_staleness_seconds")
            .await,
        0.0
    );
    let load = Load::start(&gateway, "churn").await;
    server.go_away().await;
    gateway
        .until("/metrics", |page| {
            page.contains("plumbline_gateway_discovery_up 0")
        })
        .await;
    load.more(1_000).await;
    gateway
        .until("/metrics", |page| {
            let name = "plumbline_gateway_discovery_staleness_seconds ";
            let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
            lines.any(|value| value.parse::<f64>().expect("a number") > 0.0)
        })
        .await;
    assert!(
        gateway.readiness().is_ready(),
        "what was told last is good enough to serve"
    );
    let other = FakePredictor::echo().await;
    server.apply(slice("churn-predictor", 1, &other, json!({})));
    server.come_back();
    gateway.until_endpoints(&[&predictor, &other]).await;
    gateway
        .until("/metrics", |page| {
            page.contains("plumbline_gateway_discovery_up 1")
        })
        .await;
    assert_eq!(load.failed().await, Vec::<StatusCode>::new());
}

#[tokio::test]
async fn requests_do_not_notice_that_endpoints_change() {
    let predictors = [FakePredictor::echo().await, FakePredictor::echo().await];
    let gone = RefusingPort::new();
    let server = serving("churn", &predictors[0]).await;
    let gateway = Discovering::ready(&server).await;
    let load = Load::start(&gateway, "churn").await;
    for round in 0..100 {
        let mut slice = slice("churn-predictor", 0, &predictors[round % 2], json!({}));
        if round % 3 == 0 {
            // A pod that is not ready is told of, too.
            let address = gone.address().ip().to_string();
            let unready = json!({"addresses": [address], "conditions": {"ready": false}});
            slice["endpoints"].as_array_mut().expect("a list").push(unready);
        }
        server.apply(slice);
        load.more(2).await;
    }
    gateway.until_endpoints(&[&predictors[1]]).await;
    assert_eq!(load.failed().await, Vec::<StatusCode>::new());
    assert!(predictors.iter().all(|predictor| predictor.received_so_far() > 0));
}

#[tokio::test]
async fn a_list_comes_in_pages_and_a_burst_is_followed_to_its_end() {
    let predictor = FakePredictor::echo().await;
    let server = FakeApiServer::start().await;
    for model in 0..600 {
        server.apply(service(&format!("m{model}")));
        apply_all(&server, slices(&format!("m{model}-predictor"), &[&predictor]));
    }
    let gateway = Discovering::ready(&server).await;
    assert_eq!(gateway.metric("plumbline_gateway_routes").await, 600.0);
    assert_eq!(server.lists(SERVICES), 1);
    server.watched(SERVICES, 1).await;
    server.watched(SLICES, 1).await;
    for model in 600..1_200 {
        server.apply(service(&format!("m{model}")));
        apply_all(&server, slices(&format!("m{model}-predictor"), &[&predictor]));
    }
    gateway
        .until("/metrics", |page| page.contains("plumbline_gateway_routes 1200"))
        .await;
    gateway
        .until("/metrics", |page| {
            page.contains(r#"plumbline_gateway_route_conditions{reason="no_service"} 0"#)
        })
        .await;
    assert_eq!(gateway.infer("m0").await.status(), StatusCode::OK);
    assert_eq!(gateway.infer("m1199").await.status(), StatusCode::OK);
}
