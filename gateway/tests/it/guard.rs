//! Canaries that are worse than the stable revision lose their traffic, until a person gives it back.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use plumbline_drift::Monitor;
use plumbline_drift::monitor::Settings;
use plumbline_drift::profile::{Datatype, Kind, Profile};
use plumbline_drift::report::{DriftOverview, State};
use plumbline_gateway::{GuardSpec, RouteSpec};
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::{FakePredictor, Received, Reply};
use serde_json::Value;

use crate::revisions::revision;
use crate::support::{TestGateway, churn};

/// Half to each revision.
fn guarded(stable: &FakePredictor, canary: &FakePredictor) -> RouteSpec {
    RouteSpec {
        revisions: vec![revision("stable", 1, stable), revision("canary", 1, canary)],
        guard: Some(GuardSpec::new("stable")),
        ..churn(&[])
    }
}

async fn failing() -> FakePredictor {
    FakePredictor::answering(|_: &Received| Reply::status(StatusCode::INTERNAL_SERVER_ERROR)).await
}

/// Sends requests until the canary is stopped.
async fn until_stopped(gateway: &TestGateway) {
    let stop = async {
        while !is_stopped(gateway).await {
            for _ in 0..20 {
                gateway.infer("churn").await;
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, stop)
        .await
        .expect("the canary is stopped");
}

async fn is_stopped(gateway: &TestGateway) -> bool {
    let page: Value = serde_json::from_str(&gateway.admin("/routes").await).expect("JSON");
    !page["routes"][0]["revisions"][1]["stopped_at_unix_ms"].is_null()
}

async fn resume(gateway: &TestGateway, query: &str) -> StatusCode {
    let request = Request::post(format!("/canaries/resume?{query}")).body(http_body_util::Full::default());
    gateway.send_to_admin(request.expect("a request")).await.status()
}

#[tokio::test]
async fn a_canary_that_fails_gets_no_more_traffic_until_a_person_says_so() {
    let (stable, canary, worker) = (
        FakePredictor::echo().await,
        failing().await,
        EventSink::accepting().await,
    );
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        TestGateway::start(vec![guarded(&stable, &canary)], |config| {
            config.state_dir = Some(directory.path().to_owned());
            config.events_to = Some(worker.url().parse().expect("a URL"));
        })
    };
    let gateway = start();
    until_stopped(&gateway).await;

    let events = worker.accepted(1).await;
    let event: Value = serde_json::from_slice(&events[0].body).expect("JSON");
    assert_eq!(event["type"], "dev.plumbline.canary.stopped");
    assert_eq!(event["data"]["cause"], "errors");
    assert_eq!(event["data"]["canary"]["revision"], "canary");
    assert_eq!(
        (
            &event["data"]["canary"]["failed"],
            &event["data"]["stable"]["failed"]
        ),
        (&1.0.into(), &0.0.into())
    );
    assert_eq!(events[0].path(), "/api/v1/events");

    let before = canary.received_so_far();
    for _ in 0..50 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!(canary.received_so_far(), before);
    let page = gateway.admin("/routes").await;
    assert!(
        page.contains("100.0 % of its answers fail, 0.0 % of those of `stable`"),
        "{page}"
    );
    let counted = r#"plumbline_gateway_canary_stops_total{cause="errors",model="churn"} 1"#;
    assert!(gateway.admin("/metrics").await.contains(counted));

    // Also in the next process, which tells nobody again.
    drop(gateway);
    let gateway = start();
    assert!(is_stopped(&gateway).await);
    assert_eq!(
        resume(&gateway, "model=churn&revision=other").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(resume(&gateway, "model=churn").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        resume(&gateway, "model=churn&revision=canary").await,
        StatusCode::OK
    );
    assert!(!is_stopped(&gateway).await);
    canary.script(Reply::echo);
    for _ in 0..50 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    let since = canary.received_so_far() - before;
    assert!(since.abs_diff(25) <= 1, "{since} of 50");
    assert_eq!(worker.accepted_so_far(), 1);
}

#[tokio::test]
async fn a_worker_that_is_away_hears_of_it_later() {
    let (stable, canary) = (FakePredictor::echo().await, failing().await);
    let worker = EventSink::refusing(2, 503).await;
    let gateway = TestGateway::start(vec![guarded(&stable, &canary)], |config| {
        config.events_to = Some(worker.url().parse().expect("a URL"));
    });
    until_stopped(&gateway).await;
    let attempts = worker.attempts(3).await;
    assert_eq!(attempts[0].body, attempts[2].body);
    worker.accepted(1).await;
}

#[tokio::test]
async fn a_canary_that_nobody_stands_in_for_keeps_its_traffic() {
    let (stable, canary) = (FakePredictor::echo().await, failing().await);
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = TestGateway::start(vec![guarded(&stable, &canary)], |config| {
        config.state_dir = Some(directory.path().to_owned());
    });
    until_stopped(&gateway).await;
    drop(gateway);
    // Somebody gives it all traffic.
    let mut route = guarded(&stable, &canary);
    route.revisions[0].weight = 0;
    let gateway = TestGateway::start(vec![route], |config| {
        config.state_dir = Some(directory.path().to_owned());
    });
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let page = gateway.admin("/routes").await;
    assert!(
        page.contains("would get no traffic if another revision had a weight"),
        "{page}"
    );
}

/// What a sidecar says of `churn`.
fn overview(state: State) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let mut feature = plumbline_drift::SubjectBuilder::new("x", "x", 0, Datatype::Fp64, Kind::Numeric);
    (0..100).for_each(|x| feature.push_number(f64::from(x)));
    let profile = Profile::new("churn", "1", 100, vec![feature.finish()], Vec::new());
    let monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let mut report = monitor.report(0);
    report.state = state;
    let overview = DriftOverview {
        models: vec![report],
        ..DriftOverview::default()
    };
    let json = serde_json::to_string(&overview).expect("JSON");
    move |asked| {
        assert_eq!((&asked.method, asked.path()), (&Method::GET, "/drift"));
        Reply::json(json.clone())
    }
}

#[tokio::test]
async fn a_canary_whose_sidecar_alone_sees_drift_is_stopped() {
    for (of_stable, is_worse) in [(State::Stable, true), (State::Drift, false)] {
        // Two hosts, with a sidecar on the same port of each.
        let host = |last: u8, port: u16| SocketAddr::from(([127, 0, 0, last], port));
        let stable = FakePredictor::echo().await;
        let canary = FakePredictor::answering_on(host(2, 0), Reply::echo);
        let sidecar = FakePredictor::answering(overview(of_stable)).await;
        let port = sidecar.address().port();
        let other = FakePredictor::answering_on(host(2, port), overview(State::Drift));
        let mut route = guarded(&stable, &canary);
        route.guard = Some(GuardSpec {
            sidecar_port: Some(port),
            ..GuardSpec::new("stable")
        });
        let gateway = TestGateway::start(vec![route], |_| {});
        other.received(1).await;
        sidecar.received(1).await;
        if is_worse {
            gateway
                .until("/routes", |page| page.contains("its sidecar sees drift"))
                .await;
        } else {
            assert!(!is_stopped(&gateway).await);
        }
    }
}
