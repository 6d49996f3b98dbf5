//! References that change while the sidecar runs, and state that outlives it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use plumbline_drift::Profile;
use plumbline_sidecar::Config;
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::FakePredictor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{TestSidecar, h1, post, soon};
use crate::model::{Row, Rows, Wire, answer, profile, request};
use crate::observing::with_profile;

/// Writes a profile as a copy does that is seen whole.
pub(crate) fn put(path: &Path, profile: &Profile) {
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

pub(crate) async fn send(sidecar: &TestSidecar, rows: &[Row]) {
    for some in rows.chunks(50) {
        h1(sidecar.address, request(Wire::V2Binary, some)).await;
    }
}

pub(crate) fn observed(version: &str) -> String {
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

pub(crate) const STATE: &str = r#"plumbline_drift_state{model="churn",subject="model",version="3"}"#;

pub(crate) fn states(outcome: &str) -> String {
    format!("plumbline_sidecar_states_total{{outcome=\"{outcome}\"}}")
}

fn keeping(directory: &Path) -> impl FnOnce(&mut Config) {
    let directory = directory.to_owned();
    move |config| {
        with_profile(config);
        config.state_dir = Some(directory);
    }
}

/// What verdicts rest on, without the times at which they were made.
pub(crate) async fn comparison(sidecar: &TestSidecar) -> Value {
    let mut report = sidecar.admin("/drift").await.json()["models"][0].take();
    for at in ["since_unix_ms", "window"] {
        report.as_object_mut().expect("a report").remove(at);
    }
    for subject in report["subjects"].as_array_mut().expect("subjects") {
        subject
            .as_object_mut()
            .expect("a subject")
            .remove("since_unix_ms");
    }
    report
}

#[tokio::test]
async fn an_episode_that_is_under_way_is_not_told_again_and_its_end_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(answer).await;
    let start = async || {
        TestSidecar::start(&predictor.url(), |config| {
            keeping(directory.path())(config);
            config.events_to = Some(sink.url().parse().expect("a URL"));
        })
        .await
    };
    let episode = |at: usize, events: &[plumbline_testkit::predictor::Received]| {
        let event: Value = serde_json::from_slice(&events[at].body).expect("JSON");
        (event["data"]["episode"].clone(), event["data"]["state"].clone())
    };
    let mut rows = Rows::seeded(11);
    let sidecar = start().await;
    send(&sidecar, &rows.usual(1_000)).await;
    send(&sidecar, &rows.shifted(1_000)).await;
    sidecar.metric_is(STATE, 2.0).await;
    let detected = episode(0, &soon(sink.accepted(1)).await);
    sidecar.stop().await;

    let sidecar = start().await;
    assert_eq!(sidecar.metric(STATE), 2.0, "before any row has come");
    assert_eq!(sidecar.metric(&states("restored")), 1.0);
    send(&sidecar, &rows.shifted(1_000)).await;
    sidecar.settled(20).await; // the bins of a batch are shown after its rows are counted
    assert_eq!(sidecar.metric(&observed("3")), 1_000.0);
    let bins = crate::harness::exposition(&sidecar.process);
    let counted = bins
        .lines()
        .filter(|line| line.starts_with("plumbline_feature_bin_total"));
    let counted: f64 = counted
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert_eq!(counted, 2_000.0, "two features, rows of this process only");
    assert_eq!(sink.accepted_so_far(), 1);
    sidecar.stop().await;

    let sidecar = start().await;
    send(&sidecar, &rows.usual(4_000)).await;
    sidecar.metric_is(STATE, 0.0).await;
    let recovered = episode(1, &soon(sink.accepted(2)).await);
    assert_eq!((detected.1, recovered.1), ("drift".into(), "recovered".into()));
    assert_eq!(detected.0, recovered.0);
    assert_eq!(sink.accepted_so_far(), 2);
}

#[tokio::test]
async fn a_restart_changes_no_verdict_and_forgets_no_label() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let (mut once, mut twice) = (Rows::seeded(11), Rows::seeded(11));
    let whole = TestSidecar::start(&predictor.url(), with_profile).await;
    send(&whole, &once.usual(1_250)).await;
    send(&whole, &once.shifted(30)).await;
    whole.metric_is(&observed("3"), 1_280.0).await;

    let sidecar = TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
    let first = twice.usual(1_250);
    send(&sidecar, &first[..700]).await;
    let mut labelled = request(Wire::V2Binary, &first[700..750]);
    labelled
        .headers_mut()
        .insert("x-request-id", "a".parse().expect("a value"));
    h1(sidecar.address, labelled).await;
    let body = r#"{"labels": [{"id": "a", "row": 7, "label": "yes"}]}"#;
    let told = h1(
        sidecar.address,
        post("/plumbline/v1/feedback", "application/json", body),
    )
    .await;
    assert_eq!(told.json()["joined"], 1);
    sidecar.metric_is(&observed("3"), 750.0).await;
    sidecar.stop().await;
    let sidecar = TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
    send(&sidecar, &first[750..]).await;
    send(&sidecar, &twice.shifted(30)).await;
    sidecar.metric_is(&observed("3"), 530.0).await;
    assert_eq!(comparison(&sidecar).await, comparison(&whole).await);
    let labels = r#"plumbline_model_performance_rows{model="churn",source="labels",version="3"}"#;
    sidecar.metric_is(labels, 1.0).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_used_costs_the_state_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
    send(&sidecar, &Rows::seeded(5).usual(100)).await;
    sidecar.metric_is(&observed("3"), 100.0).await;
    sidecar.stop().await;
    let file = directory.path().join("churn@3.state");
    let good = std::fs::read_to_string(&file).expect("a state");
    let cases = [
        ("half", good[..good.len() / 2].to_owned()),
        (
            "a digit",
            good.replacen("\"monitor\":\"UExN", "\"monitor\":\"UExO", 1),
        ),
        (
            "of a later version",
            good.replacen("\"format_version\":1", "\"format_version\":2", 1),
        ),
        (
            "of another model",
            good.replacen("\"model\":\"churn\"", "\"model\":\"fraud\"", 1),
        ),
    ];
    for (what, damaged) in cases {
        assert_ne!(damaged, good, "{what}");
        std::fs::write(&file, &damaged).expect("written");
        let sidecar = TestSidecar::start(&predictor.url(), keeping(directory.path())).await;
        assert_eq!(sidecar.metric(&states("damaged")), 1.0, "{what}");
        let aside = std::fs::read_to_string(file.with_extension("damaged")).expect("set aside");
        assert_eq!(aside, damaged, "{what}");
        send(&sidecar, &Rows::seeded(5).usual(50)).await;
        sidecar.metric_is(&observed("3"), 50.0).await;
        assert_eq!(comparison(&sidecar).await["rows_total"], 50, "{what}");
        sidecar.stop().await;
    }
    // The state of another profile is not damaged, but says nothing about this one.
    std::fs::write(&file, &good).expect("written");
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        keeping(directory.path())(config);
        config.profiles[0].profile.created_at = "2026-02-01T12:00:00Z".to_owned();
    })
    .await;
    let counts = ["other_profile", "damaged", "restored"].map(|outcome| sidecar.metric(&states(outcome)));
    assert_eq!(counts, [1.0, 0.0, 0.0]);
}

/// The program with a profile and a state directory; `/drift` is asked on its admin port.
pub(crate) async fn program(directory: &Path, upstream: &str) -> (tokio::process::Child, [SocketAddr; 2]) {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let any = "127.0.0.1:0";
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_plumbline-sidecar"))
        .args([
            "--listen",
            any,
            "--admin-listen",
            any,
            "--log-format",
            "json",
            "--upstream",
            upstream,
        ])
        .args(["--profile", &path("profile.json"), "--state-dir", &path("state")])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(program.stderr.take().expect("piped")).lines();
    let mut ports: [Option<SocketAddr>; 2] = [None; 2];
    while ports.contains(&None) {
        let line = soon(lines.next_line())
            .await
            .expect("a line")
            .expect("more to say");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = line["address"].as_str().and_then(|address| address.parse().ok());
        match line["port"].as_str() {
            Some("data") => ports[0] = address,
            Some("admin") => ports[1] = address,
            _ => {}
        }
    }
    // What it says later must not block it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (program, ports.map(|port| port.expect("told")))
}

#[tokio::test]
async fn kill_9_loses_no_row_that_is_older_than_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    put(&directory.path().join("profile.json"), &version("3"));
    let predictor = FakePredictor::answering(answer).await;
    let rows_total = async |admin: SocketAddr| {
        let page = http::Request::get("/drift").header("host", "admin");
        let page = h1(
            admin,
            page.body(http_body_util::Empty::<bytes::Bytes>::new())
                .expect("a request"),
        )
        .await;
        page.json()["models"][0]["rows_total"].as_u64().unwrap_or(0)
    };
    let mut sent = 0;
    for _ in 0..3 {
        let (mut sidecar, [data, admin]) = program(directory.path(), &predictor.url()).await;
        assert_eq!(rows_total(admin).await, sent);
        for _ in 0..4 {
            h1(data, request(Wire::V2Binary, &Rows::seeded(sent).usual(50))).await;
            sent += 50;
        }
        // The second of the promise.
        tokio::time::sleep(Duration::from_secs(1)).await;
        sidecar.kill().await.expect("killed");
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_plumbline-sidecar"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--state-dir",
        ])
        .arg(&file)
        .output();
    let output = soon(output).await.expect("run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot use the state directory") && text.contains("(state_dir)"),
        "{text}"
    );
}
