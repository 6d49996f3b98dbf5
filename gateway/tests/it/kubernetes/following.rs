//! Changes are followed, whatever becomes of the connection, and requests do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use plumbline_testkit::kubernetes::{FakeApiServer, inference_service};
use plumbline_testkit::predictor::{FakePredictor, RefusingPort};
use serde_json::json;

use super::{Discovering, SERVICES, SLICES, apply_all, serving, slice, slices};
use crate::support::{PATIENCE, TestGateway, infer};

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
        let sent = async {
            while self.sent.load(Ordering::Relaxed) < until {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, sent).await;
        waited.expect("requests are answered");
    }

    async fn failed(self) -> Vec<StatusCode> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load ends")
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
    gateway.ready().await;
    assert_eq!((server.lists(SERVICES), server.lists(SLICES)), (1, 1));
}

#[tokio::test]
async fn only_the_namespaces_and_labels_that_were_asked_for_are_looked_at() {
    let predictor = FakePredictor::echo().await;
    let server = serving("churn", &predictor).await;
    let mut selected = inference_service("iris");
    selected["metadata"]["labels"] = json!({"tier": "gold"});
    server.apply(selected);
    let gateway = Discovering::start_with(&server, Vec::new(), |kubernetes| {
        kubernetes.namespaces = vec!["models".to_owned(), "other".to_owned()];
        kubernetes.selector = Some("tier=gold".to_owned());
    });
    gateway.ready().await;
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
    let gateway = Discovering::when_ready(&server).await;
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
    let gateway = Discovering::when_ready(&server).await;
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
    let gateway = Discovering::when_ready(&server).await;
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
    let gateway = Discovering::when_ready(&server).await;
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
    let gateway = Discovering::when_ready(&server).await;
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
    let gateway = Discovering::when_ready(&server).await;
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
        server.apply(inference_service(&format!("m{model}")));
        apply_all(&server, slices(&format!("m{model}-predictor"), &[&predictor]));
    }
    let gateway = Discovering::when_ready(&server).await;
    assert_eq!(gateway.metric("plumbline_gateway_routes").await, 600.0);
    assert_eq!(server.lists(SERVICES), 1);
    server.watched(SERVICES, 1).await;
    server.watched(SLICES, 1).await;
    for model in 600..1_200 {
        server.apply(inference_service(&format!("m{model}")));
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
