//! Labels find their predictions, and every label is told what became of it.

use std::time::Duration;

use http::{Request, StatusCode};
use plumbline_inference_protocol::rest;
use plumbline_sidecar::{Config, Hook, Switch};
use plumbline_testkit::predictor::{FakePredictor, RefusingPort};
use serde_json::{Value, json};

use crate::harness::{Answer, TestSidecar, eventually, h1, h2, post};
use crate::model::{INFER, PREDICT, Row, Rows, Wire, answer, request};
use crate::observing::with_profile;

const FEEDBACK: &str = "/plumbline/v1/feedback";

/// Long tenures stay and short ones on monthly contracts leave, whatever the rest of the model says.
const STAYS: Row = Row {
    tenure: 70.0,
    contract: 2,
};
const LEAVES: Row = Row {
    tenure: 1.0,
    contract: 0,
};

async fn start(predictor: &FakePredictor, adjust: impl FnOnce(&mut Config)) -> TestSidecar {
    TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        adjust(config);
    })
    .await
}

async fn predict(sidecar: &TestSidecar, wire: Wire, id: &str, rows: &[Row]) -> Answer {
    let mut request = request(wire, rows);
    request
        .headers_mut()
        .insert("x-request-id", id.parse().expect("a value"));
    let answer = if wire.is_http2() {
        h2(sidecar.address, request).await
    } else {
        h1(sidecar.address, request).await
    };
    assert_eq!(answer.status, StatusCode::OK, "{wire:?}");
    answer
}

async fn tell(sidecar: &TestSidecar, labels: &Value) -> Value {
    let body = json!({ "labels": labels }).to_string();
    let answer = h1(sidecar.address, post(FEEDBACK, rest::JSON, body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    answer.json()
}

fn measure(name: &str, source: &str) -> String {
    format!("plumbline_model_{name}{{model=\"churn\",source=\"{source}\",version=\"3\"}}")
}

fn outcome(sidecar: &TestSidecar, name: &str) -> f64 {
    sidecar.metric(&format!(
        "plumbline_sidecar_feedback_labels_total{{outcome=\"{name}\"}}"
    ))
}

#[tokio::test]
async fn labels_of_every_protocol_are_joined_by_id_and_row() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |_| {}).await;
    for wire in Wire::ALL {
        let id = format!("{wire:?}");
        predict(&sidecar, wire, &id, &[STAYS, LEAVES, LEAVES]).await;
        let told = tell(
            &sidecar,
            &json!([
                {"id": id, "row": 0, "label": "no"},
                {"id": id, "row": 2, "label": "yes"},
                // The model was wrong about this one.
                {"id": id, "row": 1, "label": "no", "model": "churn"},
            ]),
        )
        .await;
        assert_eq!(
            (&told["joined"], &told["problems"]),
            (&3.into(), &json!([])),
            "{wire:?}"
        );
    }
    let rows = 3.0 * Wire::ALL.len() as f64;
    assert_eq!(outcome(&sidecar, "joined"), rows);
    sidecar
        .metric_is(&measure("performance_rows", "labels"), rows)
        .await;
    let close = |name: &str, value: f64| (sidecar.metric(&measure(name, "labels")) - value).abs() < 1e-9;
    assert!(close("accuracy", 2.0 / 3.0) && close("precision", 0.5) && close("recall", 1.0));
    assert!(close("f1", 2.0 / 3.0));
    // The one that leaves has the probability of one that stays, for half of the pairs.
    assert!((sidecar.metric(&measure("auc", "labels")) - 0.75).abs() < 0.02);
    assert!(sidecar.metric(&measure("calibration_error", "labels")) > 0.1);
    assert!(sidecar.metric(&measure("log_loss", "labels")) > 0.1);

    let page = sidecar.admin("/performance?model=churn").await.json();
    assert_eq!(page["models"][0]["labels"]["total"]["rows"], rows);
    assert_eq!(
        sidecar.admin("/performance?model=x").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn performance_is_estimated_before_there_is_a_label() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |_| {}).await;
    predict(&sidecar, Wire::V2Binary, "a", &Rows::seeded(3).usual(200)).await;
    sidecar
        .metric_is(&measure("performance_rows", "estimated"), 200.0)
        .await;
    let accuracy = sidecar.metric(&measure("accuracy", "estimated"));
    assert!(accuracy > 0.6 && accuracy < 0.9, "{accuracy}");
    let exposition = crate::harness::exposition(&sidecar.process);
    assert!(
        !exposition.contains("source=\"labels\""),
        "a measure that is not known has no series"
    );
}

#[tokio::test]
async fn without_a_header_the_id_is_that_of_the_message() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |_| {}).await;
    let mut sent: Value = serde_json::from_slice(
        &http_body_util::BodyExt::collect(request(Wire::V2Json, &[LEAVES]).into_body())
            .await
            .expect("whole")
            .to_bytes(),
    )
    .expect("JSON");
    sent["id"] = "order-17".into();
    h1(sidecar.address, post(INFER, rest::JSON, sent.to_string())).await;
    let told = tell(&sidecar, &json!([{"id": "order-17", "label": "yes"}])).await;
    assert_eq!(told["joined"], 1);
    // V1 has no id, and a request without any cannot be told apart from others.
    h1(sidecar.address, request(Wire::V1Objects, &[LEAVES])).await;
    assert_eq!(sidecar.metric("plumbline_sidecar_feedback_requests"), 1.0);
    assert!(
        !predictor
            .received(1)
            .await
            .iter()
            .any(|received| received.path() == PREDICT && received.headers.contains_key("x-request-id"))
    );
}

#[tokio::test]
async fn a_label_that_is_not_joined_is_told_why() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |_| {}).await;
    predict(&sidecar, Wire::V2Json, "a", &[STAYS]).await;
    let told = tell(
        &sidecar,
        &json!([
            {"id": "a", "label": "no"},
            {"id": "a", "label": "no"},
            {"id": "b", "label": "no"},
            {"id": "a", "row": 1, "label": "no"},
            {"id": "a", "label": "maybe"},
            {"id": "a", "label": "no", "model": "other"},
        ]),
    )
    .await;
    let counts = ["joined", "duplicate", "unknown", "late", "invalid"].map(|name| told[name].clone());
    assert_eq!(counts, [1, 1, 1, 0, 3].map(Value::from));
    let problems = told["problems"].as_array().expect("a list");
    let problem = |at: usize, outcome: &str, reason: &str| {
        let problem = problems
            .iter()
            .find(|problem| problem["index"] == at)
            .expect("told");
        assert_eq!(problem["outcome"], outcome);
        let text = problem["reason"].as_str().expect("a text");
        assert!(text.contains(reason), "{text}");
    };
    problem(1, "duplicate", "has its label");
    problem(2, "unknown", "no prediction");
    problem(3, "invalid", "1 rows");
    problem(4, "invalid", r#"["no", "yes"], got "maybe""#);
    problem(5, "invalid", "`other`");
    assert_eq!(
        [outcome(&sidecar, "unknown"), outcome(&sidecar, "invalid")],
        [1.0, 3.0]
    );
}

#[tokio::test]
async fn a_label_after_its_time_is_late() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |config| {
        config.feedback_ttl = Duration::from_millis(1);
    })
    .await;
    predict(&sidecar, Wire::V2Json, "a", &[STAYS]).await;
    sidecar.settled(1).await;
    let mut told = Value::Null;
    for _ in 0..100 {
        told = tell(&sidecar, &json!([{"id": "a", "label": "no"}])).await;
        if told["late"] == 1 {
            break;
        }
    }
    assert_eq!(told["late"], 1, "{told}");
    let expired = r#"plumbline_sidecar_feedback_dropped_total{reason="expired"}"#;
    assert!(sidecar.metric(expired) + outcome(&sidecar, "joined") == 1.0);
}

#[tokio::test]
async fn a_label_may_overtake_the_observer() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |config| {
        let slow = || std::thread::sleep(Duration::from_millis(10));
        config.before_analysis = Some(Hook::new(slow));
    })
    .await;
    for number in 0..20 {
        let id = format!("order-{number}");
        predict(&sidecar, Wire::V2Json, &id, &[STAYS]).await;
        let told = tell(&sidecar, &json!([{"id": id, "label": "no"}])).await;
        assert_eq!(told["joined"], 1, "{told}");
    }
}

#[tokio::test]
async fn feedback_is_never_forwarded_and_bad_requests_say_what_is_wrong() {
    let away = RefusingPort::new();
    let sidecar = TestSidecar::start(&away.url(), with_profile).await;
    let lines = "application/x-ndjson; charset=utf-8";
    let text = "{\"id\": \"a\", \"label\": 1}\n{\"label\": 1}";
    let cases = [
        (post(FEEDBACK, lines, text), 400, "line 2: missing field `id`"),
        (post(FEEDBACK, rest::JSON, "[]"), 400, "the body: "),
        (
            post(FEEDBACK, lines, vec![b' '; 5 << 20]),
            413,
            "post the labels in parts",
        ),
        (post("/plumbline/v2/feedback", rest::JSON, "{}"), 404, FEEDBACK),
    ];
    for (request, status, error) in cases {
        let answer = h1(sidecar.address, request).await;
        assert_eq!(answer.status.as_u16(), status);
        let told = answer.json()["error"].to_string();
        assert!(told.contains(error), "{told}");
    }
    let get = Request::get(FEEDBACK)
        .header("host", "sidecar")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let answer = h1(sidecar.address, get).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "POST");
    let answer = h1(
        sidecar.address,
        post(FEEDBACK, lines, "{\"id\": \"a\", \"label\": \"no\"}\n\n"),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.json()["unknown"]),
        (StatusCode::OK, &1.into())
    );
    let failures = r#"plumbline_sidecar_upstream_failures_total{reason="connect"}"#;
    let probes = sidecar.metric(failures);
    h1(sidecar.address, post(FEEDBACK, rest::JSON, "{\"labels\": []}")).await;
    assert_eq!((probes, sidecar.metric(failures)), (0.0, 0.0));
}

#[tokio::test]
async fn feedback_that_is_off_says_so_and_keeps_nothing() {
    let predictor = FakePredictor::answering(answer).await;
    for off in [
        (|config: &mut Config| config.feedback_bytes = 0) as fn(&mut Config),
        |config| config.analysis = Switch::Off,
    ] {
        let sidecar = start(&predictor, off).await;
        predict(&sidecar, Wire::V2Json, "a", &[STAYS]).await;
        sidecar.nothing_is_lost(1).await;
        assert_eq!(sidecar.metric("plumbline_sidecar_feedback_requests"), 0.0);
        let answer = h1(sidecar.address, post(FEEDBACK, rest::JSON, "{\"labels\": []}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.json()["error"].to_string().contains("feedback_bytes"));
    }
}

#[tokio::test]
async fn predictions_that_are_kept_stay_within_their_bytes() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = start(&predictor, |config| config.feedback_bytes = 20_000).await;
    let rows = Rows::seeded(3).usual(50);
    for number in 0..60 {
        predict(&sidecar, Wire::V2Binary, &format!("order-{number}"), &rows).await;
        assert!(sidecar.metric("plumbline_sidecar_feedback_bytes") <= 20_000.0);
    }
    sidecar.settled(60).await;
    let kept = sidecar.metric("plumbline_sidecar_feedback_requests");
    assert!(kept > 5.0 && kept < 40.0, "{kept}");
    let overflow = r#"plumbline_sidecar_feedback_dropped_total{reason="overflow"}"#;
    eventually("what was dropped is counted", || {
        sidecar.metric(overflow) == 50.0 * (60.0 - kept)
    })
    .await;
    let told = tell(
        &sidecar,
        &json!([{"id": "order-0", "label": "no"}, {"id": "order-59", "label": "no"}]),
    )
    .await;
    assert_eq!((&told["late"], &told["joined"]), (&1.into(), &1.into()));
}
