//! References that change while the sidecar runs, and state that outlives it.

use std::path::Path;
use std::time::Duration;

use plumbline_drift::Profile;
use plumbline_sidecar::Config;
use plumbline_testkit::predictor::FakePredictor;

use crate::harness::{TestSidecar, h1};
use crate::model::{Row, Rows, Wire, answer, profile, request};

/// Writes a profile as a copy does that is seen whole.
fn put(path: &Path, profile: &Profile) {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, profile.to_json()).expect("written");
    std::fs::rename(unfinished, path).expect("in place");
}

fn version(version: &str) -> Profile {
    let mut profile = profile();
    version.clone_into(&mut profile.model.version);
    profile
}

fn polling(directory: &Path) -> impl FnOnce(&mut Config) {
    let directory = directory.to_owned();
    move |config| {
        config.model_dir = directory;
        config.profile_poll = Duration::from_millis(20);
    }
}

async fn send(sidecar: &TestSidecar, rows: &[Row]) {
    for some in rows.chunks(50) {
        h1(sidecar.address, request(Wire::V2Binary, some)).await;
    }
}

fn observed(version: &str) -> String {
    format!("plumbline_rows_observed_total{{model=\"churn\",version=\"{version}\"}}")
}

const LOADED: &str = r#"plumbline_sidecar_profile_reloads_total{outcome="loaded"}"#;
const FAILED: &str = r#"plumbline_sidecar_profile_reloads_total{outcome="failed"}"#;

#[tokio::test]
async fn a_new_profile_is_taken_up_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("profile.json");
    put(&file, &version("3"));
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), polling(directory.path())).await;
    let mut rows = Rows::seeded(5);
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("3"), 50.0).await;

    std::fs::write(&file, "{\"format\": \"half a pro").expect("written");
    sidecar.metric_is(FAILED, 1.0).await;
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("3"), 100.0).await;
    assert_eq!(sidecar.metric(r#"plumbline_profile_loaded{model="churn"}"#), 1.0);

    put(&file, &version("4"));
    sidecar.metric_is(LOADED, 1.0).await;
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("4"), 50.0).await;
    assert_eq!(sidecar.metric(&observed("3")), 100.0);

    // The same content again is nothing new, and neither is a file that is gone.
    put(&file, &version("4"));
    std::fs::remove_file(&file).expect("removed");
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("4"), 100.0).await;
    assert_eq!((sidecar.metric(LOADED), sidecar.metric(FAILED)), (1.0, 1.0));
}

#[tokio::test]
async fn a_model_that_had_no_profile_is_compared_once_it_has_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), polling(directory.path())).await;
    let mut rows = Rows::seeded(5);
    send(&sidecar, &rows.usual(50)).await;
    sidecar.nothing_is_lost(1).await;
    std::fs::create_dir(directory.path().join("churn")).expect("created");
    put(&directory.path().join("churn/profile.json"), &version("3"));
    sidecar.metric_is(LOADED, 1.0).await;
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("3"), 50.0).await;
}

const LEARNED: &str = r#"plumbline_profile_learned{model="churn"}"#;
const UNKNOWN_STATE: &str = r#"plumbline_drift_state{model="churn",subject="model",version="unknown"}"#;

fn learning(directory: &Path) -> impl FnOnce(&mut Config) {
    let directory = directory.to_owned();
    move |config| {
        config.learn_rows = 1_000;
        config.state_dir = Some(directory);
    }
}

/// Who made the reference of the only model, and of how many rows so far.
async fn source(sidecar: &TestSidecar) -> (String, Option<u64>) {
    let page = sidecar.admin("/drift").await.json();
    let reference = &page["references"][0];
    let source = reference["source"].as_str().unwrap_or_default().to_owned();
    (source, reference["rows_learned"].as_u64())
}

#[tokio::test]
async fn a_model_without_a_profile_is_learned_and_then_watched() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), learning(directory.path())).await;
    let mut rows = Rows::seeded(5);
    // The first exchange makes the model known.
    send(&sidecar, &rows.usual(550)).await;
    sidecar
        .metric_is(r#"plumbline_learning_rows{model="churn"}"#, 500.0)
        .await;
    assert_eq!(source(&sidecar).await, ("learning".to_owned(), Some(500)));
    assert_eq!(
        (sidecar.metric(LEARNED), sidecar.skipped("learning")),
        (0.0, 500.0)
    );
    send(&sidecar, &rows.usual(500)).await;
    sidecar.metric_is(LEARNED, 1.0).await;
    assert_eq!(source(&sidecar).await, ("learned".to_owned(), None));
    send(&sidecar, &rows.usual(1_500)).await;
    sidecar.metric_is(&observed("unknown"), 1_500.0).await;
    assert_eq!(sidecar.metric(UNKNOWN_STATE), 0.0);
    send(&sidecar, &rows.shifted(1_000)).await;
    sidecar.metric_is(UNKNOWN_STATE, 2.0).await;
    sidecar.nothing_is_lost(11 + 10 + 30 + 20).await;
    sidecar.stop().await;

    // What has been learned is there from the start.
    let sidecar = TestSidecar::start(&predictor.url(), learning(directory.path())).await;
    assert_eq!(
        (source(&sidecar).await.0.as_str(), sidecar.metric(LEARNED)),
        ("learned", 1.0)
    );
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("unknown"), 50.0).await;
}

#[tokio::test]
async fn every_protocol_is_learned_from() {
    let predictor = FakePredictor::answering(answer).await;
    for wire in Wire::ALL {
        let directory = tempfile::tempdir().expect("a directory");
        let sidecar = TestSidecar::start(&predictor.url(), learning(directory.path())).await;
        let mut rows = Rows::seeded(5);
        for expected in ["learning", "learned"] {
            let request = |rows: &[Row]| request(wire, rows);
            let sent = [request(&rows.usual(1_000)), request(&rows.usual(1_000))];
            for request in sent {
                if wire.is_http2() {
                    crate::harness::h2(sidecar.address, request).await;
                } else {
                    h1(sidecar.address, request).await;
                }
                if expected == "learning" {
                    break;
                }
            }
            if expected == "learned" {
                sidecar.metric_is(LEARNED, 1.0).await;
                sidecar.metric_is(&observed("unknown"), 1_000.0).await;
            } else {
                sidecar.nothing_is_lost(1).await;
            }
            assert_eq!(source(&sidecar).await.0, expected, "{wire:?}");
        }
    }
}

#[tokio::test]
async fn a_profile_takes_the_place_of_what_was_learned() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        learning(directory.path())(config);
        polling(directory.path())(config);
    })
    .await;
    let mut rows = Rows::seeded(5);
    send(&sidecar, &rows.usual(1_050)).await;
    sidecar.metric_is(LEARNED, 1.0).await;
    send(&sidecar, &rows.shifted(1_000)).await;
    sidecar.metric_is(UNKNOWN_STATE, 2.0).await;
    put(&directory.path().join("profile.json"), &version("3"));
    sidecar.metric_is(LOADED, 1.0).await;
    send(&sidecar, &rows.usual(50)).await;
    sidecar.metric_is(&observed("3"), 50.0).await;
    assert_eq!(sidecar.metric(UNKNOWN_STATE), 0.0, "it says nothing any more");
}

#[tokio::test]
async fn a_bad_profile_is_not_replaced_by_a_guess() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("churn")).expect("created");
    std::fs::write(directory.path().join("churn/profile.json"), "{}").expect("written");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        learning(directory.path())(config);
        config.model_dir = directory.path().to_owned();
    })
    .await;
    send(&sidecar, &Rows::seeded(5).usual(1_200)).await;
    sidecar.nothing_is_lost(24).await;
    assert_eq!(sidecar.skipped("learning"), 0.0);
    assert_eq!(source(&sidecar).await, (String::new(), None));
}
