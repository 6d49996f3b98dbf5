//! Nothing lost and nothing done twice, however often and whenever the worker is killed: the real program, three senders that
//! deliver everything each, and services that count what reaches them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use plumbline_testkit::github::{self, FakeGitHub};
use plumbline_testkit::slack::{self, FakeSlack};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;

use crate::actions::{REPOSITORY, github};
use crate::spawned::Spawned;
use crate::support::{PATIENCE, alert, drift_event};

/// The services, and how a worker is started that uses them.
struct Stage {
    slack: FakeSlack,
    github: FakeGitHub,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new(slack: FakeSlack) -> Self {
        Self {
            slack,
            github: github().await,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("worker.db")
    }

    async fn start(&self) -> Spawned {
        let (slack, github) = (self.slack.url(), self.github.url());
        let arguments = [
            "--provider=offline",
            "--slack-url",
            &slack,
            "--slack-channel",
            slack::CHANNEL,
            "--github-url",
            &github,
            "--github-issues",
            REPOSITORY,
            "--retrain-workflow=acme/models/retrain.yml@main",
            "--retrain-approval=automatic",
            "--retrain-daily-cap=1000",
            "--recovery-delay=0s",
        ];
        let variables = [("SLACK_BOT_TOKEN", slack::TOKEN), ("GITHUB_TOKEN", github::TOKEN)];
        Spawned::start(&self.store(), &arguments, &variables).await
    }

    /// What is not at its end in the store of a worker that runs.
    fn open(&self) -> Vec<(String, String)> {
        let connection = rusqlite::Connection::open(self.store()).expect("opened");
        let mut query = connection
            .prepare(
                "SELECT 'job', state FROM job WHERE state <> 'done' UNION ALL
                 SELECT action, state FROM effect WHERE state NOT IN ('done', 'cancelled')",
            )
            .expect("a query");
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("rows");
        rows.collect::<Result<_, _>>().expect("read")
    }

    /// Waits until everything is at its end.
    async fn settled(&self, patience: Duration) {
        let settled = async {
            while !self.open().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = tokio::time::timeout(patience, settled).await.is_ok();
        let refused = self.slack.refused();
        assert!(
            in_time,
            "still open: {:?}; refused by Slack: {refused:?}",
            self.open()
        );
    }

    /// What reached the services: each thing once.
    fn assert_once(&self, incidents: usize, retrainings: usize) {
        let messages = self.slack.messages();
        let keys: BTreeSet<&str> = messages.iter().map(|message| message.key.as_str()).collect();
        assert_eq!(keys.len(), messages.len(), "each message was posted once");
        assert_eq!(
            self.slack.threads().len(),
            incidents,
            "one thread for each incident"
        );
        let issues = self.github.issues(REPOSITORY);
        let titles: BTreeSet<&str> = issues
            .iter()
            .filter_map(|issue| issue["title"].as_str())
            .collect();
        assert_eq!(
            (issues.len(), titles.len()),
            (incidents, incidents),
            "one issue for each incident"
        );
        let dispatches = self.github.dispatches(REPOSITORY);
        assert_eq!(dispatches.len(), retrainings, "one retraining for each drift");
        assert_eq!(self.slack.refused(), Vec::<String>::new());
    }

    async fn assert_audited(&self) {
        let verified = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
            .args(["audit", "verify", "--store"])
            .arg(self.store())
            .output()
            .await
            .expect("it ends");
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
        assert!(text.contains("entries hold, head "), "{text}");
    }
}

/// Alerts of other services, and every fifth time drift of another model.
fn signal(number: usize) -> (&'static str, String) {
    if number % 5 == 4 {
        let mut event = drift_event();
        let model = format!("model-{number}");
        event["id"] = json!(format!("{model}-detected"));
        event["source"] = json!(format!("/plumbline/{model}"));
        event["subject"] = json!(model);
        event["data"]["model"] = json!(model);
        event["data"]["report"]["model"] = json!(model);
        return ("/api/v1/events", event.to_string());
    }
    let labels =
        json!({"alertname": "ErrorRate", "service": format!("service-{number}"), "severity": "critical"});
    (
        "/api/v1/alerts",
        alert(&labels, &json!({"summary": format!("5xx {number}")})).to_string(),
    )
}

/// Delivers a signal until it is acknowledged, wherever the worker is by then.
async fn deliver(worker: watch::Receiver<String>, path: &str, body: &str) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let url = format!("{}{path}", *worker.borrow());
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("a request");
        if client
            .request(request)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often the worker is killed: 30 times, or as `PLUMBLINE_KILLS` says (`make kill-tests`).
fn kills() -> usize {
    let kills = std::env::var("PLUMBLINE_KILLS").ok();
    kills.map_or(30, |kills| kills.parse().expect("PLUMBLINE_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_points_it_loses_nothing_and_repeats_nothing() {
    let kills = kills();
    let seed = fastrand::u64(..);
    println!("{kills} kills, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new(FakeSlack::start().await).await;
    // Long enough that many a kill comes between what is done and its answer.
    stage.slack.answer_after(Duration::from_millis(150));
    stage.github.answer_after(Duration::from_millis(150));
    // Now and then, what was done is not answered either.
    stage.slack.fail("chat.postMessage", 2, slack::Fault::AnswerLost);
    stage
        .github
        .fail(&Method::POST, "/issues", 2, github::Fault::AnswerLost);
    let incidents = (kills / 5).max(5);
    let mut worker = stage.start().await;
    let (url, _) = watch::channel(worker.url.clone());
    let mut senders = tokio::task::JoinSet::new();
    for replica in 0..3 {
        let url = url.subscribe();
        let mut random = fastrand::Rng::with_seed(seed + replica);
        senders.spawn(async move {
            for number in 0..incidents {
                let (path, body) = signal(number);
                deliver(url.clone(), path, &body).await;
                tokio::time::sleep(Duration::from_millis(random.u64(0..1_500))).await;
            }
        });
    }
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
        worker.child.kill().await.expect("SIGKILL");
        worker = stage.start().await;
        url.send_replace(worker.url.clone());
    }
    let delivered = async { while senders.join_next().await.is_some() {} };
    let patience = PATIENCE + Duration::from_secs(3) * u32::try_from(incidents).expect("few");
    tokio::time::timeout(patience, delivered)
        .await
        .expect("everything is acknowledged");
    stage.settled(patience).await;
    stage.assert_once(incidents, incidents / 5);
    let ledger = ledger(&worker).await;
    assert_eq!(
        (&ledger["pending"], &ledger["failed"], &ledger["unaccounted"]),
        (&json!(0), &json!(0), &json!(0)),
        "{ledger}"
    );
    assert_eq!(ledger["analysed"], json!(incidents), "{ledger}");
    let received = ledger["received"].as_u64().expect("a number");
    assert!(received >= 3 * incidents as u64, "{ledger}");
    println!("{incidents} incidents, {received} deliveries committed: {ledger}");
    stage.assert_audited().await;
}

async fn ledger(worker: &Spawned) -> Value {
    let answer = crate::support::send(
        Method::GET,
        &format!("{}/api/v1/ledger", worker.url),
        &[],
        Bytes::new(),
    )
    .await;
    answer.json()
}

/// Delivers one signal and returns when it is acknowledged.
async fn deliver_one(worker: &Spawned, number: usize) {
    let (path, body) = signal(number);
    let (url, _) = watch::channel(worker.url.clone());
    tokio::time::timeout(PATIENCE, deliver(url.subscribe(), path, &body))
        .await
        .expect("acknowledged");
}

#[tokio::test]
async fn killed_while_a_call_is_under_way_it_makes_the_effect_once() {
    // The call has arrived and nothing was done about it: the next process makes it.
    let stage = Stage::new(FakeSlack::holding().await).await;
    let mut worker = stage.start().await;
    deliver_one(&worker, 0).await;
    tokio::time::timeout(PATIENCE, stage.slack.received(1))
        .await
        .expect("called");
    worker.child.kill().await.expect("SIGKILL");
    assert_eq!(stage.slack.messages(), []);
    let mut worker = stage.start().await;
    stage.slack.release();
    stage.settled(PATIENCE).await;
    stage.assert_once(1, 0);

    // The call was done and its answer lost; killed before it could look.
    stage.slack.fail("chat.postMessage", 1, slack::Fault::AnswerLost);
    stage
        .github
        .fail(&Method::POST, "/issues", 1, github::Fault::AnswerLost);
    deliver_one(&worker, 1).await;
    tokio::time::timeout(PATIENCE, stage.slack.until(|slack| slack.threads().len() == 2))
        .await
        .expect("posted");
    worker.child.kill().await.expect("SIGKILL");
    let worker = stage.start().await;
    deliver_one(&worker, 1).await;
    stage.settled(PATIENCE).await;
    stage.assert_once(2, 0);
    stage.assert_audited().await;
}

#[tokio::test]
async fn an_audit_log_that_was_changed_is_told_with_its_entry() {
    let stage = Stage::new(FakeSlack::start().await).await;
    let mut worker = stage.start().await;
    deliver_one(&worker, 0).await;
    stage.settled(PATIENCE).await;
    // A running worker's log is read, too.
    stage.assert_audited().await;
    worker.child.kill().await.expect("SIGKILL");
    let exported = audit(&stage.store(), "export").await;
    assert!(exported.status.success());
    let lines: Vec<Value> = String::from_utf8_lossy(&exported.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        lines.len() > 4
            && lines[0]["entry"]
                .as_str()
                .is_some_and(|entry| entry.contains("report_digest")),
        "{lines:?}"
    );
    let connection = rusqlite::Connection::open(stage.store()).expect("opened");
    connection
        .execute_batch("DROP TRIGGER audit_is_not_changed; UPDATE audit SET entry = replace(entry, 'allowed', 'held') WHERE seq = 2")
        .expect("tampered");
    let broken = audit(&stage.store(), "verify").await;
    assert_eq!(broken.status.code(), Some(1));
    let text = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(
        text.contains("entry 2: its content is not what its hash covers"),
        "{text}"
    );
    let missing = audit(Path::new("/nowhere/worker.db"), "verify").await;
    assert_eq!(missing.status.code(), Some(1));
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(text.contains("/nowhere/worker.db: No such file"), "{text}");
    assert_eq!(audit(&stage.store(), "shorten").await.status.code(), Some(2));
}

async fn audit(store: &Path, task: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
        .args(["audit", task, "--store"])
        .arg(store)
        .output()
        .await
        .expect("it ends")
}
