//! Drift is detected, told once, and over when it is over.

use http::StatusCode;
use plumbline_drift::report::{BinReport, DETECTED, DriftEvent, DriftOverview, RECOVERED, State};
use plumbline_sidecar::Config;
use plumbline_testkit::event_sink::EventSink;
use plumbline_testkit::predictor::{FakePredictor, Received, RefusingPort};

use crate::harness::{TestSidecar, collect, eventually, h1_client, soon};
use crate::model::{Row, Rows, Wire, answer, request};
use crate::observing::with_profile;

const STATE: &str = r#"plumbline_drift_state{model="churn",subject="model",version="3"}"#;
const OBSERVED: &str = r#"plumbline_rows_observed_total{model="churn",version="3"}"#;

/// A sidecar with a model, and how many rows it has been sent.
struct Watched {
    sidecar: TestSidecar,
    sent: usize,
    _predictor: FakePredictor,
}

impl Watched {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let predictor = FakePredictor::answering(answer).await;
        let sidecar = TestSidecar::start(&predictor.url(), |config| {
            with_profile(config);
            adjust(config);
        })
        .await;
        Self {
            sidecar,
            sent: 0,
            _predictor: predictor,
        }
    }

    /// Sends rows, ten at a time, and waits until they have been observed.
    async fn send(&mut self, rows: &[Row]) {
        let mut client = h1_client(self.sidecar.address).await;
        for some in rows.chunks(10) {
            let response = client
                .send_request(request(Wire::V2Binary, some))
                .await
                .expect("an answer");
            assert_eq!(collect(response).await.status, StatusCode::OK);
            client.ready().await.expect("kept alive");
        }
        self.sent += rows.len();
        self.sidecar.metric_is(OBSERVED, self.sent as f64).await;
    }
}

fn parse(received: &Received) -> (serde_json::Value, DriftEvent) {
    let envelope: serde_json::Value = serde_json::from_slice(&received.body).expect("JSON");
    let data = serde_json::from_value(envelope["data"].clone()).expect("a drift event");
    (envelope, data)
}

fn to(sink: &EventSink) -> impl FnOnce(&mut Config) + use<> {
    let url = sink.url().parse().expect("a URL");
    move |config| config.events_to = Some(url)
}

#[tokio::test]
async fn drift_is_told_once_after_refusals_and_so_is_its_end() {
    let sink = EventSink::refusing(2, 503).await;
    let mut watched = Watched::start(to(&sink)).await;
    let mut rows = Rows::seeded(11);
    watched.send(&rows.usual(1_500)).await;
    assert_eq!(watched.sidecar.metric(STATE), 0.0);

    watched.send(&rows.shifted(1_000)).await;
    watched.sidecar.metric_is(STATE, 2.0).await;
    let score = r#"plumbline_drift_score{model="churn",statistic="psi",subject="tenure",version="3"}"#;
    assert!(watched.sidecar.metric(score) > 1.0);
    let accepted = soon(sink.accepted(1)).await;
    assert_eq!(sink.attempts_so_far(), 3);
    let received = &accepted[0];
    assert_eq!(received.path(), "/api/v1/events");
    assert_eq!(received.header("content-type"), "application/cloudevents+json");
    let (envelope, detected) = parse(received);
    assert_eq!(envelope["type"], DETECTED);
    assert_eq!(
        (&envelope["specversion"], &envelope["subject"]),
        (&"1.0".into(), &"churn".into())
    );
    assert_eq!(
        envelope["source"],
        format!("http://{}", watched.sidecar.process.admin_address())
    );
    assert_eq!((detected.state, detected.version.as_str()), (State::Drift, "3"));
    // Not at the end of a window of 500 rows, but as soon as there is enough for a verdict.
    assert!((100..500).contains(&detected.rows), "{}", detected.rows);
    let tenure = detected
        .report
        .subjects
        .iter()
        .find(|subject| subject.name == "tenure")
        .expect("a subject");
    assert_eq!(
        tenure.bins.iter().map(|bin| bin.window).sum::<u64>(),
        detected.report.window.rows,
        "histograms come along"
    );

    watched.send(&rows.usual(4_000)).await;
    watched.sidecar.metric_is(STATE, 0.0).await;
    let accepted = soon(sink.accepted(2)).await;
    let (envelope, recovered) = parse(&accepted[1]);
    assert_eq!(
        (&envelope["type"], recovered.state),
        (&RECOVERED.into(), State::Recovered)
    );
    assert_eq!(recovered.episode, detected.episode);
    assert_eq!(recovered.started_at_unix_ms, detected.started_at_unix_ms);
    assert!(recovered.at_unix_ms >= detected.at_unix_ms && recovered.rows > detected.rows);
    eventually("both are delivered", || {
        watched
            .sidecar
            .metric(r#"plumbline_sidecar_events_total{outcome="delivered"}"#)
            == 2.0
    })
    .await;
    assert_eq!(sink.accepted_so_far(), 2);
}

#[tokio::test]
async fn rows_like_the_reference_raise_nothing() {
    let sink = EventSink::accepting().await;
    let mut watched = Watched::start(to(&sink)).await;
    watched.send(&Rows::seeded(23).usual(6_000)).await;
    assert_eq!(
        watched
            .sidecar
            .metric(r#"plumbline_drift_windows_total{model="churn",version="3"}"#),
        12.0
    );
    assert_eq!(watched.sidecar.metric(STATE), 0.0);
    assert_eq!(
        watched
            .sidecar
            .metric(r#"plumbline_sidecar_events_total{outcome="raised"}"#),
        0.0
    );
    assert_eq!(sink.attempts_so_far(), 0);
}

#[tokio::test]
async fn a_window_closes_by_time_as_well() {
    let mut watched = Watched::start(|config| {
        config.window_time = std::time::Duration::from_millis(1);
    })
    .await;
    watched.send(&Rows::seeded(5).usual(150)).await;
    let windows = r#"plumbline_drift_windows_total{model="churn",version="3"}"#;
    eventually("a window is closed", || watched.sidecar.metric(windows) >= 1.0).await;
}

#[tokio::test]
async fn a_worker_that_hangs_holds_up_nothing() {
    let sink = EventSink::holding().await;
    let mut watched = Watched::start(to(&sink)).await;
    let mut rows = Rows::seeded(11);
    watched.send(&rows.shifted(1_000)).await;
    soon(sink.attempts(1)).await;
    // Answers and observation go on: sending waits for both.
    watched.send(&rows.shifted(1_000)).await;
    assert_eq!(sink.accepted_so_far(), 0);
    sink.release();
    assert_eq!(parse(&soon(sink.accepted(1)).await[0]).1.state, State::Drift);
}

#[tokio::test]
async fn an_event_that_the_worker_refuses_for_good_is_dropped_and_counted() {
    let sink = EventSink::refusing(1, 422).await;
    let mut watched = Watched::start(to(&sink)).await;
    watched.send(&Rows::seeded(11).shifted(1_000)).await;
    soon(sink.attempts(1)).await;
    watched
        .sidecar
        .metric_is(r#"plumbline_sidecar_events_total{outcome="refused"}"#, 1.0)
        .await;
    watched
        .sidecar
        .metric_is("plumbline_sidecar_events_pending", 0.0)
        .await;
    assert_eq!(sink.accepted_so_far(), 0);
}

#[tokio::test]
async fn a_spooled_event_outlives_the_sidecar() {
    let spool = tempfile::tempdir().expect("a directory");
    let to = |url: String| {
        let directory = spool.path().to_owned();
        move |config: &mut Config| {
            config.events_to = Some(url.parse().expect("a URL"));
            config.spool_dir = Some(directory);
        }
    };
    let away = RefusingPort::new();
    let mut watched = Watched::start(to(away.url())).await;
    watched.send(&Rows::seeded(11).shifted(1_000)).await;
    watched
        .sidecar
        .metric_is("plumbline_sidecar_events_pending", 1.0)
        .await;
    watched.sidecar.stop().await;

    let sink = EventSink::accepting().await;
    let again = Watched::start(to(sink.url())).await;
    let (_, event) = parse(&soon(sink.accepted(1)).await[0]);
    assert_eq!(event.state, State::Drift);
    again
        .sidecar
        .metric_is("plumbline_sidecar_events_pending", 0.0)
        .await;
    eventually("the spool holds the names of episodes only", || {
        let files = std::fs::read_dir(spool.path()).expect("a directory");
        let names: Vec<_> = files.map(|file| file.expect("a file").file_name()).collect();
        names == ["episodes.json"]
    })
    .await;
}

#[tokio::test]
async fn events_wait_in_the_state_directory_when_they_have_none_of_their_own() {
    let state = tempfile::tempdir().expect("a directory");
    let directory = state.path().to_owned();
    let away = RefusingPort::new();
    let url = away.url().parse().expect("a URL");
    let mut watched = Watched::start(move |config| {
        config.events_to = Some(url);
        config.state_dir = Some(directory);
    })
    .await;
    watched.send(&Rows::seeded(11).shifted(1_000)).await;
    watched.sidecar.stop().await;
    let files = std::fs::read_dir(state.path().join("events")).expect("a directory");
    let events = files.filter(|file| {
        let name = file.as_ref().expect("a file").file_name();
        name.to_string_lossy().ends_with(".event.json")
    });
    assert_eq!(events.count(), 1);
}

#[tokio::test]
async fn an_episode_that_is_found_again_after_a_restart_is_the_same_one() {
    let spool = tempfile::tempdir().expect("a directory");
    let sink = EventSink::accepting().await;
    let start = async || {
        let directory = spool.path().to_owned();
        let url = sink.url().parse().expect("a URL");
        Watched::start(move |config| {
            config.events_to = Some(url);
            config.spool_dir = Some(directory);
            config.admin_url = Some("http://churn-0:9902".parse().expect("a URL"));
        })
        .await
    };
    let mut rows = Rows::seeded(11);
    let mut watched = start().await;
    watched.send(&rows.shifted(1_000)).await;
    soon(sink.accepted(1)).await;
    watched.sidecar.stop().await;

    // Nothing of the comparison was kept: the drift is found again, and told under the name that the worker knows.
    let mut watched = start().await;
    watched.send(&rows.shifted(1_000)).await;
    watched.send(&rows.usual(4_000)).await;
    let accepted = soon(sink.accepted(3)).await;
    let told: Vec<(serde_json::Value, DriftEvent)> = accepted.iter().map(parse).collect();
    let id = |at: usize| (&told[at].0["source"], &told[at].0["id"]);
    assert_eq!(id(0), id(1));
    assert_eq!(told[2].1.state, State::Recovered);
    for (_, event) in &told {
        assert_eq!(event.episode, told[0].1.episode);
        assert_eq!(event.started_at_unix_ms, told[0].1.started_at_unix_ms);
    }
    watched.send(&rows.shifted(1_000)).await;
    let (_, next) = parse(&soon(sink.accepted(4)).await[3]);
    assert_ne!(next.episode, told[0].1.episode);
}

#[tokio::test]
async fn the_drift_page_tells_everything_or_what_was_asked() {
    let mut watched = Watched::start(|_| {}).await;
    let mut rows = Rows::seeded(11);
    let overview = async |watched: &Watched, path: &str| {
        let page = watched.sidecar.admin(path).await;
        serde_json::from_slice::<DriftOverview>(&page.body).expect("an overview")
    };
    watched.send(&rows.usual(550)).await;
    let drift = overview(&watched, "/drift").await;
    assert_eq!((drift.models.len(), drift.models[0].subjects.len()), (1, 5));
    // The open window has too few rows to say anything: the last one is shown, with counts up to date.
    assert_eq!(
        (drift.models[0].state, drift.models[0].rows_total),
        (State::Stable, 550)
    );
    assert_eq!(
        (drift.models[0].window.rows, drift.models[0].window.closed),
        (500, true)
    );
    let contract = &drift.models[0].subjects[1];
    let sum = |of: fn(&BinReport) -> u64| contract.bins.iter().map(of).sum::<u64>();
    assert_eq!((sum(|bin| bin.window), sum(|bin| bin.total)), (500, 550));
    let monthly = &contract.bins[0];
    assert_eq!(monthly.name, "monthly");
    assert!(
        monthly.reference > 500 && monthly.reference < 900,
        "about a third of 2,000"
    );

    watched.send(&rows.usual(100)).await;
    let drift = overview(&watched, "/drift").await;
    assert_eq!(
        (drift.models[0].window.rows, drift.models[0].window.closed),
        (150, false)
    );
    watched.send(&rows.shifted(500)).await;
    let drift = overview(&watched, "/drift").await;
    assert_eq!(drift.models[0].state, State::Drift);

    let drift = overview(&watched, "/drift?model=churn&subject=tenure").await;
    assert_eq!(drift.models[0].subjects.len(), 1);
    let page = watched.sidecar.admin("/drift?model=nobody").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
}
