//! Predictions that wait for their labels outlive the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use plumbline_inference_protocol::rest;
use plumbline_sidecar::Config;
use plumbline_testkit::predictor::FakePredictor;
use serde_json::{Value, json};

use crate::harness::{TestSidecar, h1, post};
use crate::model::{Rows, Wire, answer, profile, request};
use crate::observing::with_profile;
use crate::state::{program, put};

fn keeping(directory: &Path) -> impl FnOnce(&mut Config) {
    let directory = directory.to_owned();
    move |config| {
        with_profile(config);
        config.state_dir = Some(directory);
    }
}

/// A request for the predictions of three rows, as `id`.
fn named(id: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = request(Wire::V2Binary, &Rows::seeded(7).usual(3));
    let value = id.parse().expect("a value");
    request.headers_mut().insert("x-request-id", value);
    request
}

/// What becomes of labels for these rows of `id`.
async fn tell(address: std::net::SocketAddr, id: &str, rows: &[u32]) -> Value {
    let labels: Vec<Value> = rows
        .iter()
        .map(|row| json!({"id": id, "row": row, "label": "yes"}))
        .collect();
    let body = json!({ "labels": labels }).to_string();
    let path = "/plumbline/v1/feedback";
    h1(address, post(path, rest::JSON, body)).await.json()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory.join("feedback")).expect("a directory");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn labels_find_predictions_of_the_process_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let start = async || TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
    let sidecar = start().await;
    h1(sidecar.address, named("order-17")).await;
    assert_eq!(tell(sidecar.address, "order-17", &[0]).await["joined"], 1);
    sidecar.stop().await;

    let sidecar = start().await;
    let told = tell(sidecar.address, "order-17", &[0, 1, 2, 3]).await;
    assert_eq!(
        (&told["joined"], &told["duplicate"], &told["invalid"]),
        (&json!(2), &json!(1), &json!(1)),
        "{told}"
    );
    let rows = r#"plumbline_model_performance_rows{model="churn",source="labels",version="3"}"#;
    sidecar.metric_is(rows, 3.0).await;
    assert_eq!(sidecar.metric("plumbline_sidecar_feedback_restored_total"), 1.0);
    sidecar.stop().await;

    // The time of which they are kept goes on while no process runs.
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        keeping(directory.path())(config);
        config.feedback_ttl = Duration::from_millis(1);
    })
    .await;
    assert_eq!(tell(sidecar.address, "order-17", &[0]).await["late"], 1);
    assert_eq!(segments(directory.path()).len(), 0, "nothing is needed of them");
}

#[tokio::test]
async fn predictions_that_are_damaged_cost_their_labels_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let start = async || TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
    for id in ["first", "second"] {
        let sidecar = start().await;
        h1(sidecar.address, named(id)).await;
        sidecar.settled(1).await;
        sidecar.stop().await;
    }
    let file = segments(directory.path()).remove(0);
    let mut bytes = std::fs::read(&file).expect("a segment");
    let last = bytes.last_mut().expect("not empty");
    *last ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    let sidecar = start().await;
    let damaged = sidecar.metric(r#"plumbline_sidecar_states_total{outcome="damaged"}"#);
    assert_eq!(damaged, 1.0);
    let aside = std::fs::read(file.with_extension("damaged")).expect("set aside");
    assert_eq!(aside, bytes);
    assert_eq!(tell(sidecar.address, "first", &[0]).await["unknown"], 1);
    assert_eq!(tell(sidecar.address, "second", &[0]).await["joined"], 1);
    h1(sidecar.address, named("third")).await;
    assert_eq!(tell(sidecar.address, "third", &[0]).await["joined"], 1);
}

#[tokio::test]
async fn kill_9_loses_no_prediction_and_no_label_that_is_older_than_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut third = profile();
    "3".clone_into(&mut third.model.version);
    put(&directory.path().join("profile.json"), &third);
    let predictor = FakePredictor::answering(answer).await;
    for round in 0..3 {
        let (mut sidecar, [data, _]) = program(directory.path(), &predictor.url()).await;
        for earlier in 0..round {
            let told = tell(data, &format!("order-{earlier}"), &[0, 1]).await;
            // The second row of each was labelled by the process after its own.
            let is_last = earlier + 1 == round;
            let expected = if is_last { (1, 1) } else { (0, 2) };
            assert_eq!(
                (&told["joined"], &told["duplicate"]),
                (&json!(expected.0), &json!(expected.1)),
                "{told}"
            );
        }
        let id = format!("order-{round}");
        h1(data, named(&id)).await;
        assert_eq!(tell(data, &id, &[0]).await["joined"], 1);
        // The second of the promise.
        tokio::time::sleep(Duration::from_secs(1)).await;
        sidecar.kill().await.expect("killed");
    }
}
