//! Nothing that was accepted is lost: the real binary, killed between acceptance and report.

use std::path::Path;

use http::{Method, StatusCode};
use plumbline_testkit::gemini::{API_KEY, FakeGemini, answer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::spawned::Spawned;
use crate::support::{PATIENCE, alert, drift_event, good_answer, send};

async fn start(store: &Path, gemini: &FakeGemini) -> Spawned {
    let url = gemini.url();
    let arguments = ["--gemini-url", &url, "--provider=gemini", "--print-reports"];
    Spawned::start(store, &arguments, &[("GEMINI_API_KEY", API_KEY)]).await
}

fn reports(store: &Path) -> Vec<(String, u32, String)> {
    let connection = rusqlite::Connection::open(store).expect("opened");
    let mut query = connection
        .prepare("SELECT incident_id, revision, provider FROM report")
        .expect("a query");
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("rows");
    rows.collect::<Result<_, _>>().expect("read")
}

/// Tokens of each report, as the audit log has them.
fn audited_tokens(store: &Path) -> Vec<u64> {
    let connection = rusqlite::Connection::open(store).expect("opened");
    let mut query = connection.prepare("SELECT entry FROM audit").expect("a query");
    let entries = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let entries = entries.map(|entry| serde_json::from_str(&entry.expect("a text")).expect("JSON"));
    let reports = entries.filter(|entry: &serde_json::Value| entry["kind"] == "report");
    reports
        .map(|entry| entry["tokens"].as_u64().expect("a number"))
        .collect()
}

#[tokio::test]
async fn a_worker_killed_between_acceptance_and_report_writes_it_once_after_the_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("worker.db");
    let gemini = FakeGemini::holding(|_| answer(&good_answer().to_string())).await;
    let mut first = start(&store, &gemini).await;
    let body = alert(
        &json!({"alertname": "ModelErrorRateHigh", "service": "scorer"}),
        &json!({"summary": "5xx"}),
    )
    .to_string();
    let url = format!("{}/api/v1/alerts", first.url);
    let accepted = send(Method::POST, &url, &[], body.clone().into()).await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.text());
    // The request at the provider tells where the analysis is.
    gemini.received(1).await;
    first.child.kill().await.expect("SIGKILL");
    assert_eq!(reports(&store), []);

    let mut second = start(&store, &gemini).await;
    // At once, and not when a lease has run out.
    tokio::time::timeout(PATIENCE, gemini.received(2))
        .await
        .expect("taken up again");
    let url = format!("{}/api/v1/alerts", second.url);
    let again = send(Method::POST, &url, &[], body.into()).await.json();
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(1)));
    gemini.release();
    second.finished().await;
    let id = accepted.json()["incidents"][0]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(reports(&store), [(id.clone(), 1, "gemini".to_owned())]);
    // What this process has asked; what the killed one did is not known.
    assert_eq!(audited_tokens(&store), [20]);
    let page = send(
        Method::GET,
        &format!("{}/api/v1/incidents/{id}", second.url),
        &[],
        "".into(),
    )
    .await
    .json();
    assert_eq!(page["incident"]["state"], "reported");
    second.child.kill().await.expect("SIGKILL");

    // A third start finds nothing to do: an incident of its own is the next and only report.
    let mut third = start(&store, &gemini).await;
    let url = format!("{}/api/v1/events", third.url);
    send(Method::POST, &url, &[], drift_event().to_string().into()).await;
    third.finished().await;
    let mut printed = BufReader::new(third.child.stdout.take().expect("piped")).lines();
    let first_line = printed.next_line().await.expect("readable").expect("a line");
    assert_eq!(first_line, "# P0 churn: Contract and MonthlyCharges drifted");
    let kept = reports(&store);
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(kept.iter().filter(|(incident, _, _)| *incident == id).count(), 1);
}

#[tokio::test]
async fn a_second_worker_on_the_same_store_is_refused_and_sigterm_ends_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("worker.db");
    let gemini = FakeGemini::answering(|_| answer("{}")).await;
    let mut first = start(&store, &gemini).await;
    let second = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
        .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--store"])
        .arg(&store)
        .output()
        .await
        .expect("it ends");
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another worker has the store"), "{text}");
    let id = first.child.id().expect("it runs");
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &id.to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    assert_eq!(first.child.wait().await.expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn a_full_disk_is_a_503_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("worker.db");
    let mut worker = Spawned::start_with_little_room(&store, 2_048).await;
    let body = |number: usize| {
        let labels = json!({"alertname": "ErrorRate", "service": "scorer", "pod": format!("pod-{number}")});
        alert(&labels, &json!({"description": "word ".repeat(4_000)})).to_string()
    };
    let post = async |url: &str, number: usize| {
        let url = format!("{url}/api/v1/alerts");
        let headers = [("content-type", "application/json")];
        send(Method::POST, &url, &headers, body(number).into()).await
    };
    let mut acknowledged = 0;
    let refused = loop {
        let answer = post(&worker.url, acknowledged).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "20 kB each, and the disk is not full");
    };
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        refused.text()
    );
    assert!(refused.headers.contains_key("retry-after") && acknowledged > 0);
    // It says so again, and goes on answering.
    assert_eq!(
        post(&worker.url, acknowledged).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    worker.child.kill().await.expect("killed");

    let worker = Spawned::start(&store, &["--provider=offline"], &[]).await;
    assert_eq!(
        post(&worker.url, acknowledged).await.json()["accepted"],
        1,
        "room again"
    );
    let kept: i64 = rusqlite::Connection::open(&store)
        .and_then(|store| store.query_row("SELECT count(*) FROM signal", [], |row| row.get(0)))
        .expect("readable");
    assert_eq!(kept, acknowledged as i64 + 1);
}
