//! Drift in one part of the traffic.

use std::path::Path;
use std::time::Duration;

use plumbline_drift::Profile;
use plumbline_drift::profile::{Segment, Segmentation};
use plumbline_drift::report::{DriftEvent, DriftOverview, DriftReport, State};
use plumbline_sidecar::{Config, NamedProfile};
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::{FakePredictor, Received};

use crate::harness::{TestSidecar, exposition, h1, soon};
use crate::model::{CONTRACTS, Row, Rows, Wire, answer, profile_of, request};

const STATE: &str = r#"plumbline_drift_state{model="churn",subject="model",version="3"}"#;
const LOADED: &str = r#"plumbline_sidecar_profile_reloads_total{outcome="loaded"}"#;
const OBSERVED: &str = r#"plumbline_rows_observed_total{model="churn",version="3"}"#;

fn state_of(segment: &str) -> String {
    format!("plumbline_drift_segment_state{{model=\"churn\",segment=\"{segment}\",version=\"3\"}}")
}

/// Usual rows with a tenth of the contracts over two years, and three of them over one.
fn usual(rows: &mut Rows, count: usize) -> Vec<Row> {
    let mut usual = rows.usual(count);
    for row in &mut usual {
        let u = rows.0.uniform();
        row.contract = usize::from(u < 0.4) + usize::from(u < 0.1);
    }
    usual
}

/// The same where the contracts over two years, and no others, are of new customers.
fn shifted(rows: &mut Rows, count: usize) -> Vec<Row> {
    let mut shifted = usual(rows, count);
    let new = shifted.iter_mut().filter(|row| row.contract == 2);
    new.for_each(|row| row.tenure /= 6.0);
    shifted
}

/// A profile of 10,000 rows with these segments of the feature `contract`.
fn profile(contracts: &[&str]) -> Profile {
    let rows = usual(&mut Rows::seeded(1), 10_000);
    let segment = |contract: &&str| {
        let own = rows.iter().filter(|row| CONTRACTS[row.contract] == *contract);
        let part = profile_of(&own.copied().collect::<Vec<_>>());
        Segment {
            value: Some((*contract).to_owned()),
            rows: part.data.rows,
            features: part.features,
            outputs: part.outputs,
            seasonality: None,
        }
    };
    Profile {
        segments: Some(Segmentation {
            feature: "contract".to_owned(),
            parts: contracts.iter().map(segment).collect(),
        }),
        ..profile_of(&rows)
    }
}

fn given(profile: Profile) -> impl FnOnce(&mut Config) {
    move |config| {
        let model = "churn".to_owned();
        config.profiles = vec![NamedProfile { model, profile }];
    }
}

async fn send(sidecar: &TestSidecar, rows: &[Row]) {
    let before = sidecar.metric(OBSERVED);
    for some in rows.chunks(50) {
        h1(sidecar.address, request(Wire::V2Binary, some)).await;
    }
    sidecar.metric_is(OBSERVED, before + rows.len() as f64).await;
}

async fn drift(sidecar: &TestSidecar) -> DriftReport {
    let page = sidecar.admin("/drift").await;
    let mut overview: DriftOverview = serde_json::from_slice(&page.body).expect("an overview");
    overview.models.remove(0)
}

fn event(received: &Received) -> DriftEvent {
    let envelope: serde_json::Value = serde_json::from_slice(&received.body).expect("JSON");
    serde_json::from_value(envelope["data"].clone()).expect("a drift event")
}

#[tokio::test]
async fn drift_in_a_tenth_of_the_rows_is_told_of_their_segment_across_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = EventSink::accepting().await;
    let predictor = FakePredictor::answering(answer).await;
    let start = async || {
        TestSidecar::start(&predictor.url(), |config| {
            given(profile(&["monthly", "two years"]))(config);
            config.events_to = Some(sink.url().parse().expect("a URL"));
            config.state_dir = Some(directory.path().to_owned());
        })
        .await
    };
    let mut rows = Rows::seeded(11);
    let sidecar = start().await;
    let sent = usual(&mut rows, 3_000);
    send(&sidecar, &sent).await;
    let report = drift(&sidecar).await;
    let segments = report.segments.expect("segments");
    assert_eq!(
        (report.state, segments.state, segments.drifted.len()),
        (State::Stable, State::Stable, 0)
    );
    // The rows of a contract without a segment, of which there is no `other` here.
    let count = |contract: usize| sent.iter().filter(|row| row.contract == contract).count() as u64;
    let counted: Vec<_> = segments
        .segments
        .iter()
        .map(|s| (s.name.as_str(), s.rows_total))
        .collect();
    assert_eq!(counted, [("monthly", count(0)), ("two years", count(2))]);
    assert_eq!(segments.unmonitored_rows, count(1));

    while sidecar.metric(&state_of("two years")) < 2.0 {
        send(&sidecar, &shifted(&mut rows, 50)).await;
        assert!(
            sidecar.metric(OBSERVED) < 6_000.0,
            "{:?}",
            drift(&sidecar).await.segments
        );
    }
    assert_eq!(
        [STATE, &state_of("monthly")].map(|series| sidecar.metric(series)),
        [0.0; 2]
    );
    let report = drift(&sidecar).await;
    let segments = report.segments.expect("segments");
    assert_eq!((report.segment, report.state), (None, State::Stable));
    assert_eq!(
        (segments.state, segments.drifted),
        (State::Drift, vec!["two years".to_owned()])
    );
    assert!(segments.segments[1].ranking.iter().any(|c| c.subject == "tenure"));
    let detected = event(&soon(sink.accepted(1)).await[0]);
    assert_eq!(detected.state, State::Drift);
    assert_eq!(detected.report.segment.as_deref(), Some("two years"));
    assert_eq!(detected.report.segments.expect("segments").drifted, ["two years"]);
    assert_eq!(detected.report.subjects.len(), 5, "the segment's own comparison");
    sidecar.stop().await;

    let sidecar = start().await;
    assert_eq!(
        sidecar.metric(&state_of("two years")),
        2.0,
        "before any row has come"
    );
    assert_eq!(
        sidecar.metric(r#"plumbline_sidecar_states_total{outcome="restored"}"#),
        1.0
    );
    let segments = drift(&sidecar).await.segments.expect("segments");
    assert_eq!(
        (segments.segments[1].episode, segments.drifted),
        (1, vec!["two years".to_owned()])
    );
    send(&sidecar, &shifted(&mut rows, 500)).await;
    assert_eq!(sink.accepted_so_far(), 1, "it is not told again");
    send(&sidecar, &usual(&mut rows, 20_000)).await;
    sidecar.metric_is(&state_of("two years"), 0.0).await;
    let recovered = event(&soon(sink.accepted(2)).await[1]);
    assert_eq!(
        (recovered.state, recovered.episode, recovered.started_at_unix_ms),
        (State::Recovered, detected.episode, detected.started_at_unix_ms)
    );
    assert_eq!(sink.accepted_so_far(), 2);
}

#[tokio::test]
async fn the_windows_of_segments_close_by_time_as_well() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        given(profile(&["two years"]))(config);
        config.window_time = Duration::from_millis(1);
    })
    .await;
    let rows = usual(&mut Rows::seeded(5), 3_000);
    let own: Vec<Row> = rows.into_iter().filter(|row| row.contract == 2).collect();
    send(&sidecar, &own[..150]).await;
    let window = async || drift(&sidecar).await.segments.expect("segments").segments[0].window;
    let closed = async {
        while !window().await.closed {
            tokio::task::yield_now().await;
        }
    };
    soon(closed).await;
    assert!(window().await.rows >= 100);
}

#[tokio::test]
async fn segments_come_and_go_with_the_profile() {
    fn put(directory: &Path, profile: &Profile) {
        let unfinished = directory.join("new");
        std::fs::write(&unfinished, profile.to_json()).expect("written");
        std::fs::rename(unfinished, directory.join("profile.json")).expect("in place");
    }

    let directory = tempfile::tempdir().expect("a directory");
    put(directory.path(), &profile(&["monthly", "two years"]));
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        config.model_dir = directory.path().to_owned();
        config.profile_poll = Duration::from_millis(20);
    })
    .await;
    let shown = || {
        let text = exposition(&sidecar.process);
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix("plumbline_drift_segment_state"));
        series.map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |segment: &str| format!("{{model=\"churn\",segment=\"{segment}\",version=\"3\"}} 0");
    assert_eq!(shown(), [line("monthly"), line("two years")]);
    put(directory.path(), &profile(&["one year"]));
    sidecar.metric_is(LOADED, 1.0).await;
    assert_eq!(shown(), [line("one year")]);
    let rows = usual(&mut Rows::seeded(5), 100);
    send(&sidecar, &rows).await;
    let segments = drift(&sidecar).await.segments.expect("segments");
    let own = rows.iter().filter(|row| row.contract == 1).count() as u64;
    assert_eq!(
        (segments.segments[0].rows_total, segments.unmonitored_rows),
        (own, 100 - own)
    );
    let without = Profile {
        segments: None,
        ..profile(&["one year"])
    };
    put(directory.path(), &without);
    sidecar.metric_is(LOADED, 2.0).await;
    assert!(shown().is_empty() && drift(&sidecar).await.segments.is_none());
}
