//! An episode whose reference is replaced comes to an end, and the worker is told once.

use std::path::Path;
use std::time::Duration;

use plumbline_drift::Profile;
use plumbline_drift::report::{DriftEvent, EndReason, State};
use plumbline_sidecar::{Config, NamedProfile};
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::{FakePredictor, Received};

use crate::harness::{TestSidecar, h1, soon};
use crate::model::{Row, Rows, Wire, answer, profile, request};

/// The profile of the tests in its first version, its second, and the first made anew.
fn references() -> [Profile; 3] {
    let [first, mut second, mut anew] = [profile(), profile(), profile()];
    "4".clone_into(&mut second.model.version);
    "2026-02-01T12:00:00Z".clone_into(&mut anew.created_at);
    [first, second, anew]
}

/// Replaced as a copy does that is seen whole.
fn put(directory: &Path, profile: &Profile) {
    let unfinished = directory.join("profile.new");
    std::fs::write(&unfinished, profile.to_json()).expect("written");
    std::fs::rename(unfinished, directory.join("profile.json")).expect("in place");
}

async fn send(sidecar: &TestSidecar, rows: &[Row]) {
    for some in rows.chunks(50) {
        h1(sidecar.address, request(Wire::V2Binary, some)).await;
    }
}

fn state(version: &str) -> String {
    format!("plumbline_drift_state{{model=\"churn\",subject=\"model\",version=\"{version}\"}}")
}

fn events(received: &[Received]) -> Vec<DriftEvent> {
    let data = |received: &Received| {
        let mut event: serde_json::Value = serde_json::from_slice(&received.body).expect("JSON");
        serde_json::from_value(event["data"].take()).expect("a drift event")
    };
    received.iter().map(data).collect()
}

const RAISED: &str = r#"plumbline_sidecar_events_total{outcome="raised"}"#;
const LOADED: &str = r#"plumbline_sidecar_profile_reloads_total{outcome="loaded"}"#;

#[tokio::test]
async fn an_episode_ends_when_its_profile_is_replaced() {
    let predictor = FakePredictor::answering(answer).await;
    let [first, second, anew] = references();
    for next in [second, anew] {
        let directory = tempfile::tempdir().expect("a directory");
        let sink = EventSink::accepting().await;
        let start = async || {
            TestSidecar::start(&predictor.url(), |config| {
                config.model_dir = directory.path().to_owned();
                config.profile_poll = Duration::from_millis(20);
                config.state_dir = Some(directory.path().join("state"));
                config.events_to = Some(sink.url().parse().expect("a URL"));
            })
            .await
        };
        // Without an episode there is nothing to end.
        put(directory.path(), &next);
        let sidecar = start().await;
        put(directory.path(), &first);
        sidecar.metric_is(LOADED, 1.0).await;
        assert_eq!(sidecar.metric(RAISED), 0.0);

        let mut rows = Rows::seeded(11);
        send(&sidecar, &rows.usual(1_000)).await;
        send(&sidecar, &rows.shifted(1_000)).await;
        sidecar.metric_is(&state("3"), 2.0).await;
        soon(sink.accepted(1)).await;
        put(directory.path(), &next);
        sidecar.metric_is(LOADED, 2.0).await;
        let told = events(&soon(sink.accepted(2)).await);
        assert_eq!(sidecar.metric(&state("3")), 0.0);
        let [begin, end] = &told[..] else {
            panic!("{} events", told.len())
        };
        assert_eq!((begin.state, begin.reason), (State::Drift, None));
        assert_eq!(
            (end.state, end.reason),
            (State::Recovered, Some(EndReason::ReferenceReplaced))
        );
        assert_eq!(
            (&end.episode, &end.version, end.started_at_unix_ms),
            (&begin.episode, &begin.version, begin.started_at_unix_ms)
        );
        assert!(end.rows > begin.rows && end.at_unix_ms >= begin.at_unix_ms);
        assert_eq!(end.report.state, State::Drift, "the comparison as it ended");

        // Neither the next reference nor the next process tells it again, and both have episodes of their own.
        send(&sidecar, &rows.shifted(1_000)).await;
        soon(sink.accepted(3)).await;
        sidecar.stop().await;
        let sidecar = start().await;
        send(&sidecar, &rows.usual(4_000)).await;
        let told = events(&soon(sink.accepted(4)).await);
        assert_ne!(told[2].episode, told[1].episode);
        assert_eq!(told[3].episode, told[2].episode);
        assert_eq!((told[3].state, told[3].reason), (State::Recovered, None));
        sidecar.stop().await;
        assert_eq!(sink.accepted_so_far(), 4);
    }
}

#[tokio::test]
async fn an_episode_ends_when_its_profile_is_replaced_between_two_processes() {
    let predictor = FakePredictor::answering(answer).await;
    let [first, second, anew] = references();
    // Whether the comparison outlives the process, and whether the old one is found under the new profile's version.
    for (next, is_kept, is_known) in [(&second, true, false), (&anew, true, true), (&anew, false, false)] {
        let directory = tempfile::tempdir().expect("a directory");
        let sink = EventSink::accepting().await;
        let start = async |profile: &Profile| {
            let profile = profile.clone();
            TestSidecar::start(&predictor.url(), |config: &mut Config| {
                let model = "churn".to_owned();
                config.profiles = vec![NamedProfile { model, profile }];
                let place = Some(directory.path().to_owned());
                if is_kept {
                    config.state_dir = place;
                } else {
                    config.spool_dir = place;
                }
                config.events_to = Some(sink.url().parse().expect("a URL"));
            })
            .await
        };
        let sidecar = start(&first).await;
        send(&sidecar, &Rows::seeded(11).shifted(1_000)).await;
        soon(sink.accepted(1)).await;
        sidecar.stop().await;

        let sidecar = start(next).await;
        let told = events(&soon(sink.accepted(2)).await);
        let (begin, end) = (&told[0], &told[1]);
        assert_eq!(
            (&end.episode, end.state, end.reason),
            (
                &begin.episode,
                State::Recovered,
                Some(EndReason::ReferenceReplaced)
            )
        );
        assert_eq!(end.started_at_unix_ms, begin.started_at_unix_ms);
        let last = (end.report.state, end.rows > 0);
        let expected = if is_known {
            (State::Drift, true)
        } else {
            (State::Stable, false)
        };
        assert_eq!(last, expected);
        assert_eq!(sidecar.metric(&state(&next.model.version)), 0.0);
        sidecar.stop().await;

        // Once, also when the old profile comes back.
        for profile in [next, &first] {
            start(profile).await.stop().await;
        }
        assert_eq!(sink.accepted_so_far(), 2);
    }
}
