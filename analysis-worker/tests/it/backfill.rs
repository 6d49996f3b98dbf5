//! Alerts that nobody could tell: asked for after a pause, each once, whoever tells it first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use plumbline_analysis_worker::Config;
use plumbline_testkit::predictor::{FakePredictor, Received, Reply};
use serde_json::{Value, json};

use crate::support::{PATIENCE, TestWorker};

/// Seconds between two evaluations of the rules.
const INTERVAL: i64 = 15;

/// A Prometheus with these series of `ALERTS`.
struct Prometheus {
    server: FakePredictor,
    series: Arc<Mutex<Vec<Value>>>,
    fails: Arc<AtomicBool>,
}

impl Prometheus {
    async fn start() -> Self {
        let (series, fails) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicBool>::default());
        let (known, broken) = (Arc::clone(&series), Arc::clone(&fails));
        let server = FakePredictor::answering(move |request: &Received| {
            if broken.load(Ordering::SeqCst) {
                return Reply::status(StatusCode::SERVICE_UNAVAILABLE);
            }
            let data = if request.path().ends_with("/rules") {
                let annotations = json!({"summary": "{{ $labels.pod }} fails {{ $value }}"});
                json!({"groups": [{"name": "g", "interval": INTERVAL, "rules": [
                    {"name": "ErrorRate", "type": "alerting", "annotations": annotations}]}]})
            } else {
                let all = request.uri.query().is_some_and(|query| query.contains("ALERTS"));
                let result = if all {
                    known.lock().expect("known").clone()
                } else {
                    Vec::new()
                };
                json!({"resultType": "matrix", "result": result})
            };
            Reply::json(json!({"status": "success", "data": data}).to_string())
        })
        .await;
        Self {
            server,
            series,
            fails,
        }
    }

    /// An alert that fired from the one time to the other, in seconds before now.
    fn fired(&self, pod: &str, from: i64, to: i64) {
        let now = now();
        let samples: Vec<Value> = (now - from..=now - to)
            .step_by(INTERVAL as usize)
            .map(|at| json!([at, "1"]))
            .collect();
        let labels = json!({"__name__": "ALERTS", "alertstate": "firing", "alertname": "ErrorRate",
            "service": "scorer", "pod": pod, "severity": "critical"});
        let series = json!({"metric": labels, "values": samples});
        self.series.lock().expect("known").push(series);
    }

    fn configure(&self, config: &mut Config) {
        config.sources.prometheus = Some(self.server.url().parse().expect("a URL"));
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs() as i64
}

/// The same alert as Alertmanager tells it: with an external label, and the time with its fraction.
fn told(pod: &str, from: i64, to: Option<i64>) -> String {
    let time = |at: i64| {
        let at = rfc3339(now() - at);
        json!(at)
    };
    json!({"alerts": [{
        "status": if to.is_some() { "resolved" } else { "firing" },
        "labels": {"alertname": "ErrorRate", "service": "scorer", "pod": pod, "severity": "critical",
            "prometheus": "one"},
        "annotations": {"summary": "fails"},
        "startsAt": time(from),
        "endsAt": to.map_or_else(|| json!("0001-01-01T00:00:00Z"), time),
        "fingerprint": format!("fp-{pod}"),
    }]})
    .to_string()
}

/// RFC 3339 without a library: days since 1970 to a date, as Howard Hinnant's *chrono-compatible low-level date
/// algorithms* have it.
fn rfc3339(at: i64) -> String {
    let (days, second) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// A store whose worker was there last so many seconds ago.
fn left(folder: &tempfile::TempDir, seconds: i64) {
    let store = rusqlite::Connection::open(folder.path().join("worker.db")).expect("opened");
    let at = (now() - seconds) * 1000;
    let changed = store.execute("UPDATE heartbeat SET beat_at = ?1, missed_since = NULL", [at]);
    assert_eq!(changed.expect("written"), 1);
}

/// Starts a worker, waits for its first beat, ends it, and has it be gone for so long.
async fn gone_for(seconds: i64) -> tempfile::TempDir {
    let worker = TestWorker::start(|_| {}).await;
    let url = worker.store.clone();
    let beaten = async {
        let store = rusqlite::Connection::open(&url).expect("opened");
        let beats = || store.query_row("SELECT count(*) FROM heartbeat", [], |row| row.get::<_, i64>(0));
        while beats().expect("read") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, beaten).await.expect("a beat");
    let folder = worker.stop().await;
    left(&folder, seconds);
    folder
}

/// Waits until what was missed has been asked for.
async fn caught_up(worker: &TestWorker, outcome: &str) {
    let series = format!("plumbline_worker_backfills_total{{outcome=\"{outcome}\"}} 1");
    let done = async {
        while !worker.metrics().contains(&series) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect(outcome);
}

async fn signals(worker: &TestWorker) -> Vec<Value> {
    let incidents = worker.get("/api/v1/incidents").await.json();
    let mut signals = Vec::new();
    for incident in incidents["incidents"].as_array().expect("a list") {
        let path = format!("/api/v1/incidents/{}", incident["id"].as_str().expect("an id"));
        let incident = worker.get(&path).await.json();
        signals.extend(incident["signals"].as_array().expect("signals").clone());
    }
    signals
}

#[tokio::test]
async fn alerts_of_a_pause_are_found_and_analysed() {
    let prometheus = Prometheus::start().await;
    prometheus.fired("a", 500, 300);
    prometheus.fired("b", 200, 0);
    // Over before the pause began.
    prometheus.fired("c", 900, 700);
    let folder = gone_for(600).await;
    let mut worker = TestWorker::start_in(folder, |config| prometheus.configure(config)).await;
    let report = worker.report().await;
    assert!(
        report.markdown.contains("told late: Prometheus had it"),
        "{}",
        report.markdown
    );
    caught_up(&worker, "done").await;
    let signals = signals(&worker).await;
    let of = |pod: &str| {
        signals
            .iter()
            .find(|signal| signal["body"]["labels"]["pod"] == pod)
    };
    let (over, fires) = (of("a").expect("found"), of("b").expect("found"));
    assert_eq!(
        (&over["origin"], &over["status"]),
        (&json!("backfilled"), &json!("resolved"))
    );
    assert_eq!(fires["status"], "firing");
    assert_eq!(over["body"]["annotations"]["summary"], "a fails …");
    assert_eq!(signals.len(), 2, "{signals:?}");
    assert!(
        worker
            .metrics()
            .contains(r#"plumbline_worker_signals_total{intake="backfill",kind="new"} 2"#)
    );
}

#[tokio::test]
async fn what_alertmanager_tells_later_is_the_same_alert() {
    let prometheus = Prometheus::start().await;
    prometheus.fired("a", 500, 300);
    prometheus.fired("b", 200, 0);
    let folder = gone_for(600).await;
    let worker = TestWorker::start_in(folder, |config| prometheus.configure(config)).await;
    caught_up(&worker, "done").await;
    for (body, resolved) in [
        (told("b", 200, None), 0),
        // Told while it fired, and delivered late.
        (told("a", 500, None), 0),
        (told("a", 500, Some(285)), 0),
        // A repetition.
        (told("a", 500, None), 0),
        (told("b", 200, Some(0)), 1),
    ] {
        let answer = worker.post("/api/v1/alerts", body).await.json();
        assert_eq!(answer["accepted"], 0, "{answer}");
        assert_eq!(
            answer["resolved"].as_array().map(Vec::len),
            Some(resolved),
            "{answer}"
        );
    }
    assert_eq!(signals(&worker).await.len(), 2);
    // The next time is another alert.
    let answer = worker.post("/api/v1/alerts", told("a", 10, None)).await.json();
    assert_eq!(answer["accepted"], 1, "{answer}");
}

#[tokio::test]
async fn what_alertmanager_told_before_is_ended_and_not_told_again() {
    let prometheus = Prometheus::start().await;
    prometheus.fired("a", 700, 300);
    let worker = TestWorker::start(|_| {}).await;
    let answer = worker.post("/api/v1/alerts", told("a", 700, None)).await.json();
    assert_eq!(answer["accepted"], 1);
    let folder = worker.stop().await;
    left(&folder, 600);
    let worker = TestWorker::start_in(folder, |config| prometheus.configure(config)).await;
    caught_up(&worker, "done").await;
    let signals = signals(&worker).await;
    assert_eq!(signals.len(), 1, "{signals:?}");
    assert_eq!(
        (&signals[0]["origin"], &signals[0]["status"]),
        (&json!("alertmanager"), &json!("resolved"))
    );
}

#[tokio::test]
async fn a_pause_is_not_forgotten_while_prometheus_is_away() {
    let prometheus = Prometheus::start().await;
    prometheus.fired("a", 500, 300);
    prometheus.fails.store(true, Ordering::SeqCst);
    let folder = gone_for(600).await;
    let worker = TestWorker::start_in(folder, |config| prometheus.configure(config)).await;
    caught_up(&worker, "failed").await;
    assert!(
        !worker.metrics().contains("plumbline_worker_gap_seconds 0\n"),
        "{}",
        worker.metrics()
    );
    let folder = worker.stop().await;
    prometheus.fails.store(false, Ordering::SeqCst);
    let worker = TestWorker::start_in(folder, |config| prometheus.configure(config)).await;
    caught_up(&worker, "done").await;
    assert_eq!(signals(&worker).await.len(), 1);
    assert!(worker.metrics().contains("plumbline_worker_gap_seconds 0\n"));
}

#[tokio::test]
async fn without_anybody_to_ask_a_pause_is_said_to_be_lost() {
    let folder = gone_for(600).await;
    let worker = TestWorker::start_in(folder, |_| {}).await;
    caught_up(&worker, "off").await;
}
