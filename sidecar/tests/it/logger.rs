//! Payloads are logged as KServe's logger does, and a sink that is slow or away costs nothing but events.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, StatusCode};
use plumbline_inference_protocol::{grpc, rest};
use plumbline_sidecar::{Config, LogMode, LogNames};
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::{Cut, FakePredictor, Received, RefusingPort, Reply};

use crate::harness::{TestSidecar, eventually, h1, h2, post, soon};
use crate::model::{INFER, Rows, Wire, answer, request};

const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";

fn to(url: String) -> impl FnOnce(&mut Config) {
    move |config| config.log_to = Some(url.parse().expect("a URL"))
}

fn outcome(sidecar: &TestSidecar, name: &str) -> f64 {
    sidecar.metric(&format!(
        "plumbline_sidecar_log_events_total{{outcome=\"{name}\"}}"
    ))
}

/// Every event was sent, dropped for a reason, or waits.
fn nothing_is_lost(sidecar: &TestSidecar) -> bool {
    let ends = [
        "sent",
        "queue_full",
        "not_kept",
        "incomplete",
        "failed",
        "refused",
        "shutdown",
    ];
    let ended: f64 = ends.iter().map(|end| outcome(sidecar, end)).sum();
    outcome(sidecar, "offered") == ended + sidecar.metric("plumbline_sidecar_log_pending")
}

/// Events by type.
fn of_type<'a>(events: &'a [Received], kind: &str) -> Vec<&'a Received> {
    events
        .iter()
        .filter(|event| event.header("ce-type") == kind)
        .collect()
}

#[tokio::test]
async fn both_sides_of_an_exchange_are_logged_under_one_id() {
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(format!("{}/payloads?key=1", sink.url()))(config);
        config.log_names = LogNames {
            inference_service: Some("churn-service".to_owned()),
            namespace: Some("models".to_owned()),
            ..LogNames::default()
        };
    })
    .await;
    let rows = Rows::seeded(7).usual(3);
    for (at, wire) in Wire::ALL.into_iter().enumerate() {
        let mut sent = request(wire, &rows);
        sent.headers_mut()
            .insert("x-request-id", format!("order-{at}").parse().expect("a value"));
        let answered = if wire.is_http2() {
            h2(sidecar.address, sent).await
        } else {
            h1(sidecar.address, sent).await
        };
        let accepted = soon(sink.accepted(2 * (at + 1))).await;
        let events = &accepted[2 * at..];
        let (asked, told) = (of_type(events, REQUEST)[0], of_type(events, RESPONSE)[0]);
        let received = predictor.received(0).await;
        // Probes come in between.
        let forwarded = received
            .iter()
            .filter(|received| received.method == Method::POST)
            .nth(at);
        let forwarded = forwarded.expect("forwarded");
        assert_eq!(asked.body, forwarded.body, "{wire:?}");
        assert_eq!(asked.header("content-type"), forwarded.header("content-type"));
        assert_eq!(told.body, answered.body, "{wire:?}");
        assert_eq!(told.header("content-type"), answered.headers["content-type"]);
        assert_eq!(told.header("ce-statuscode"), "200");
        if wire.is_http2() {
            assert_eq!(told.header("ce-grpcstatus"), "0");
        }
        if wire == Wire::V2Binary {
            let length = forwarded.header(rest::HEADER_LENGTH);
            let metadata = format!("{{\"Inference-Header-Content-Length\":[\"{length}\"]}}");
            assert_eq!(asked.header("ce-metadata"), metadata);
        }
        for event in [asked, told] {
            assert_eq!(event.uri.to_string(), "/payloads?key=1");
            assert_eq!(event.header("ce-specversion"), "1.0");
            assert_eq!(event.header("ce-id"), format!("order-{at}"));
            assert_eq!(event.header("ce-inferenceservicename"), "churn-service");
            assert_eq!(event.header("ce-namespace"), "models");
            assert_eq!(
                [event.header("ce-component"), event.header("ce-endpoint")],
                ["predictor", "default"]
            );
            let source = format!("http://{}", sidecar.process.admin_address());
            assert_eq!(event.header("ce-source"), source);
            assert!(event.header("ce-time").ends_with('Z'));
        }
    }
    assert_eq!(outcome(&sidecar, "offered"), 12.0);
    eventually("all are sent", || {
        outcome(&sidecar, "sent") == 12.0 && nothing_is_lost(&sidecar)
    })
    .await;
}

#[tokio::test]
async fn errors_are_logged_as_what_they_are() {
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(|received| match received.path() {
        INFER => Reply::status(StatusCode::BAD_REQUEST)
            .header("content-type", "text/plain")
            .chunk("no such input"),
        _ => Reply::grpc_error(8, "full"),
    })
    .await;
    let sidecar = TestSidecar::start(&predictor.url(), to(sink.url())).await;
    let rows = Rows::seeded(7).usual(1);
    h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    let events = soon(sink.accepted(2)).await;
    let told = of_type(&events, RESPONSE)[0];
    assert_eq!(told.body, "no such input");
    assert_eq!(
        [told.header("content-type"), told.header("ce-statuscode")],
        ["text/plain", "400"]
    );
    assert_eq!(of_type(&events, REQUEST)[0].header("content-type"), rest::JSON);
    assert_eq!(told.header("ce-id"), of_type(&events, REQUEST)[0].header("ce-id"));
    assert_eq!(
        told.header("ce-id").len(),
        32,
        "a client without an id gets none back"
    );

    h2(sidecar.address, request(Wire::GrpcRaw, &rows)).await;
    let events = soon(sink.accepted(4)).await;
    let told = of_type(&events[2..], RESPONSE)[0];
    assert_eq!(
        [told.header("ce-statuscode"), told.header("ce-grpcstatus")],
        ["200", "8"]
    );
    assert_eq!(told.header("content-type"), grpc::CONTENT_TYPE);
    assert!(told.body.is_empty());
}

#[tokio::test]
async fn what_cannot_be_logged_whole_is_counted() {
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(|_| Reply::json(vec![b' '; 30_000])).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(sink.url())(config);
        config.capture_limit = 20_000;
    })
    .await;
    let rows = Rows::seeded(7).usual(1);
    h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    soon(sink.accepted(1)).await;
    assert_eq!(outcome(&sidecar, "not_kept"), 1.0);
    predictor.script(|_| Reply::json("{\"half").cut(Cut::MidBody));
    assert!(h1(sidecar.address, request(Wire::V2Json, &rows)).await.broken);
    soon(sink.accepted(2)).await;
    eventually("the broken answer is counted", || {
        outcome(&sidecar, "incomplete") == 1.0
    })
    .await;
    eventually("nothing is lost", || nothing_is_lost(&sidecar)).await;
    assert_eq!(of_type(&sink.accepted(2).await, RESPONSE).len(), 0);
}

#[tokio::test]
async fn a_share_is_logged_and_sides_can_be_left_out() {
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(sink.url())(config);
        config.log_sample = 0.5;
    })
    .await;
    let rows = Rows::seeded(7).usual(1);
    for _ in 0..60 {
        h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    }
    eventually("all are sent", || {
        outcome(&sidecar, "sent") == outcome(&sidecar, "offered") && nothing_is_lost(&sidecar)
    })
    .await;
    let events = sink.accepted(0).await;
    // Fewer than 10 or more than 50 of 60 come once in 10⁷ runs.
    assert!(events.len() >= 20 && events.len() <= 100, "{}", events.len());
    let mut sides: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        *sides.entry(event.header("ce-id")).or_default() += 1;
    }
    assert!(
        sides.values().all(|sides| *sides == 2),
        "one decision for both sides"
    );

    let answers = EventSink::accepting().await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(answers.url())(config);
        config.log_mode = LogMode::Response;
    })
    .await;
    for _ in 0..3 {
        h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    }
    assert_eq!(of_type(&soon(answers.accepted(3)).await, RESPONSE).len(), 3);
    assert_eq!(outcome(&sidecar, "offered"), 3.0);
}

#[tokio::test]
async fn a_sink_that_hangs_costs_events_within_the_budget_and_no_answer() {
    let sink = EventSink::holding().await;
    let predictor = FakePredictor::echo().await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(sink.url())(config);
        config.log_bytes = 100_000;
    })
    .await;
    let body = Bytes::from(vec![b'x'; 10_000]);
    for _ in 0..20 {
        let answered = h1(sidecar.address, post(INFER, "text/plain", body.clone())).await;
        assert_eq!((answered.status, answered.body), (StatusCode::OK, body.clone()));
        assert!(sidecar.metric("plumbline_sidecar_log_pending_bytes") <= 100_000.0);
        assert!(nothing_is_lost(&sidecar));
    }
    let dropped = outcome(&sidecar, "queue_full");
    assert!(dropped >= 30.0, "{dropped} of 40");
    sink.release();
    eventually("what waited is sent", || {
        outcome(&sidecar, "sent") == 40.0 - dropped && nothing_is_lost(&sidecar)
    })
    .await;
    assert_eq!(sidecar.metric("plumbline_sidecar_log_pending_bytes"), 0.0);
}

#[tokio::test]
async fn a_sink_that_is_away_or_refuses_is_given_up_event_by_event() {
    let away = RefusingPort::new();
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), to(away.url())).await;
    let rows = Rows::seeded(7).usual(1);
    h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    eventually("both are given up", || outcome(&sidecar, "failed") == 2.0).await;

    let sink = EventSink::refusing(3, 503).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        to(sink.url())(config);
        config.log_mode = LogMode::Request;
    })
    .await;
    sink.refuse(2, 503);
    h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    soon(sink.accepted(1)).await;
    assert_eq!(sink.attempts_so_far(), 3, "503 is tried again");
    sink.refuse(1, 422);
    h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    eventually("the refusal is counted", || outcome(&sidecar, "refused") == 1.0).await;
    assert_eq!(sink.attempts_so_far(), 4, "422 is not");
    assert!(nothing_is_lost(&sidecar));
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent_or_counted() {
    let sink = EventSink::holding().await;
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), to(sink.url())).await;
    let rows = Rows::seeded(7).usual(1);
    for _ in 0..5 {
        h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    }
    soon(sink.attempts(4)).await;
    let stopping = tokio::spawn(sidecar.stop());
    sink.release();
    let process = soon(stopping).await.expect("no panic");
    assert_eq!(sink.accepted_so_far(), 10);
    let sent = r#"plumbline_sidecar_log_events_total{outcome="sent"}"#;
    assert_eq!(crate::harness::metric(&process, sent), 10.0);

    let deaf = EventSink::holding().await;
    let sidecar = TestSidecar::start(&predictor.url(), to(deaf.url())).await;
    for _ in 0..5 {
        h1(sidecar.address, request(Wire::V2Json, &rows)).await;
    }
    let process = soon(sidecar.stop()).await;
    let lost = r#"plumbline_sidecar_log_events_total{outcome="shutdown"}"#;
    assert_eq!(crate::harness::metric(&process, lost), 10.0);
    assert_eq!(
        crate::harness::metric(&process, "plumbline_sidecar_log_pending"),
        0.0
    );
}
