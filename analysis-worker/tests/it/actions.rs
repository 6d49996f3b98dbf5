//! From a signal to Slack, GitHub and a retraining, and what people decide on the way.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use plumbline_analysis_worker::{
    Actions, Approval, Config, FinishedReport, Policy, Repository, RetrainPolicy, SlackConfig, Workflow,
};
use plumbline_testkit::github::{self, FakeGitHub};
use plumbline_testkit::slack::{self, FakeSlack, sign};
use serde_json::{Value, json};

use crate::support::{Answer, PATIENCE, TestWorker, drift_event};

const REPOSITORY: &str = "acme/models";
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const CONSOLE: &str = "console-token-of-the-test";

/// Slack and GitHub, and a worker that uses both.
struct Stage {
    slack: FakeSlack,
    github: FakeGitHub,
    worker: TestWorker,
}

pub(crate) async fn github() -> FakeGitHub {
    let github = FakeGitHub::start().await;
    github.add_repository(REPOSITORY);
    github.add_workflow(REPOSITORY, "retrain.yml", &["key", "incident", "model"]);
    github
}

fn actions(slack: &FakeSlack) -> Actions {
    let repository = Repository::parse(REPOSITORY).expect("a name");
    Actions {
        policy: Policy {
            slack: Some(slack::CHANNEL.to_owned()),
            issues: Some(repository.clone()),
            retrain: Some(RetrainPolicy {
                workflow: Workflow {
                    repository,
                    file: "retrain.yml".to_owned(),
                    git_ref: "main".to_owned(),
                },
                approval: Approval::Required,
                cooldown: Duration::from_hours(24),
                daily_cap: 3,
                min_effect: 0.25,
                expiry: Duration::from_hours(24),
            }),
            recovery_delay: Duration::ZERO,
            reopen_window: Duration::from_hours(1),
        },
        slack: Some(SlackConfig {
            token: slack::TOKEN.to_owned(),
            base_url: slack.url().parse().expect("a URL"),
            channel: slack::CHANNEL.to_owned(),
            signing_secret: Some(SECRET.to_owned()),
            approvers: vec!["U0ALICE".to_owned()],
        }),
        public_url: Some("https://plumbline.example".parse().expect("a URL")),
        console_token: Some(CONSOLE.to_owned()),
    }
}

impl Stage {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let (slack, github) = (FakeSlack::start().await, github().await);
        let worker = TestWorker::start(|config| {
            config.actions = actions(&slack);
            config.github.token = Some(github::TOKEN.to_owned());
            config.github.base_url = github.url().parse().expect("a URL");
            change(config);
        })
        .await;
        Self {
            slack,
            github,
            worker,
        }
    }

    async fn drift(&mut self) -> Arc<FinishedReport> {
        let answer = self
            .worker
            .post("/api/v1/events", drift_event().to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        self.worker.report().await
    }

    async fn until(&self, wanted: impl Fn(&FakeSlack) -> bool) {
        tokio::time::timeout(PATIENCE, self.slack.until(wanted))
            .await
            .unwrap_or_else(|_| {
                panic!(
                    "not in time: {:#?}; refused: {:?}",
                    self.slack.messages(),
                    self.slack.refused()
                )
            });
    }

    /// A request as Slack sends it.
    async fn slack_sends(&self, body: &str) -> Answer {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs().to_string();
        let signature = sign(SECRET, &now, body.as_bytes());
        self.signed(body, &now, &signature).await
    }

    async fn signed(&self, body: &str, timestamp: &str, signature: &str) -> Answer {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-slack-request-timestamp", timestamp),
            ("x-slack-signature", signature),
        ];
        self.worker
            .send(Method::POST, "/api/v1/slack", &headers, body.to_owned())
            .await
    }

    /// Somebody presses a button.
    async fn press(&self, user: &str, channel: &str, action: &str, value: &str) -> Answer {
        let payload = json!({
            "type": "block_actions", "user": {"id": user, "username": "x"}, "channel": {"id": channel},
            "response_url": self.slack.response_url(),
            "actions": [{"type": "button", "action_id": action, "value": value}],
        });
        self.slack_sends(&form(&[("payload", &payload.to_string())]))
            .await
    }

    /// The next thing said to a person, after `before` others.
    async fn said(&self, before: usize) -> String {
        self.until(|slack| slack.responses().len() > before).await;
        self.slack.responses()[before]["text"]
            .as_str()
            .expect("text")
            .to_owned()
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        let mut all = String::new();
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() {
                all.push(char::from(byte));
            } else {
                let _ = write!(all, "%{byte:02X}");
            }
        }
        all
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

fn recovered() -> Value {
    let mut event = drift_event();
    event["id"] = json!("recovered-1");
    event["type"] = json!("dev.plumbline.drift.recovered");
    event["data"]["state"] = json!("recovered");
    event
}

#[tokio::test]
async fn urgent_drift_is_told_opens_an_issue_and_asks_before_it_trains() {
    let mut stage = Stage::start(|_| ()).await;
    let finished = stage.drift().await;
    let id = &finished.report.incident.id;
    stage
        .until(|slack| {
            slack
                .threads()
                .first()
                .is_some_and(|message| message.text().contains("|GitHub>"))
        })
        .await;
    let message = stage.slack.threads().remove(0);
    assert!(
        message
            .text()
            .contains("P0 · churn: Contract and MonthlyCharges drifted"),
        "{message:#?}"
    );
    assert!(
        message
            .text()
            .contains(&format!("https://plumbline.example/incidents/{id}")),
        "{message:#?}"
    );
    let issues = stage.github.issues(REPOSITORY);
    assert_eq!(issues.len(), 1);
    let body = issues[0]["body"].as_str().expect("text");
    assert!(
        body.contains(&format!("https://plumbline.example/incidents/{id}/plots/1/0.svg")),
        "{body}"
    );
    assert!(body.contains("| Month-to-month | 55.0 % | 91.2 % |"), "{body}");
    let plot = stage.worker.get(&format!("/incidents/{id}/plots/1/0.svg")).await;
    assert_eq!(
        (plot.status, &plot.headers["content-type"]),
        (StatusCode::OK, &"image/svg+xml".parse().expect("a value"))
    );
    assert_eq!(
        stage
            .worker
            .get(&format!("/incidents/{id}/plots/1/99.svg"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        stage
            .worker
            .get(&format!("/incidents/{id}/plots/2/0.svg"))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        stage.github.dispatches(REPOSITORY),
        Vec::<Value>::new(),
        "a person has to agree"
    );
}

#[tokio::test]
async fn a_button_of_an_approver_starts_one_retraining() {
    let mut stage = Stage::start(|_| ()).await;
    let finished = stage.drift().await;
    let id = &finished.report.incident.id;
    stage.until(|slack| !slack.threads().is_empty()).await;
    let message = stage.slack.threads().remove(0);
    let value = message.button("approve_retraining").expect("a button");
    // Not everybody may, not from everywhere, and not something else.
    for (user, channel, value, expected) in [
        (
            "U0MALLORY",
            slack::CHANNEL,
            value.as_str(),
            "not among those who decide",
        ),
        ("U0ALICE", "C0OTHER", value.as_str(), "another channel"),
        ("U0ALICE", slack::CHANNEL, "1:0000", "does not count"),
        ("U0ALICE", slack::CHANNEL, "x:y", "not one of ours"),
    ] {
        let before = stage.slack.responses().len();
        let answer = stage.press(user, channel, "approve_retraining", value).await;
        assert_eq!(answer.status, StatusCode::OK);
        let said = stage.said(before).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let before = stage.slack.responses().len();
    stage
        .press("U0ALICE", slack::CHANNEL, "approve_retraining", &value)
        .await;
    assert!(stage.said(before).await.starts_with("Taken"));
    stage
        .until(|slack| {
            slack.threads()[0]
                .text()
                .contains("Retraining was started* by <@U0ALICE>")
        })
        .await;
    let dispatches = stage.github.dispatches(REPOSITORY);
    assert_eq!(dispatches.len(), 1);
    assert_eq!(dispatches[0]["inputs"]["model"], "churn");
    assert_eq!(&dispatches[0]["inputs"]["incident"], id);
    // The same button once more.
    let before = stage.slack.responses().len();
    stage
        .press("U0ALICE", slack::CHANNEL, "approve_retraining", &value)
        .await;
    assert!(stage.said(before).await.contains("the request is approved by"));
    assert_eq!(stage.slack.refused(), Vec::<String>::new());

    stage.worker.post("/api/v1/events", recovered().to_string()).await;
    stage
        .until(|slack| {
            let messages = slack.messages();
            messages[0].text().contains("recovered · churn") && messages.len() == 2
        })
        .await;
    let reply = &stage.slack.messages()[1];
    assert_eq!(reply.thread_ts.as_ref(), Some(&message.ts));
    assert!(
        reply.text().contains("Recovered: no signal fires since"),
        "{reply:#?}"
    );
    let page = stage.worker.get(&format!("/incidents/{id}")).await.text();
    for expected in [
        "What policy decided",
        "urgency is P0",
        "slack:U0ALICE",
        "What was done outside",
        "acme/models",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[tokio::test]
async fn what_is_not_signed_by_slack_just_now_is_refused() {
    let stage = Stage::start(|_| ()).await;
    let body = form(&[("command", "/plumbline"), ("text", "incidents")]);
    let answer = stage.slack_sends(&body).await;
    assert_eq!(answer.json()["text"], "Nothing has happened yet.");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let old = (now - 301).to_string();
    let replayed = stage
        .signed(&body, &old, &sign(SECRET, &old, body.as_bytes()))
        .await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED);
    assert!(
        replayed.text().contains("more than five minutes old"),
        "{}",
        replayed.text()
    );
    let now = now.to_string();
    let forged = stage
        .signed(&body, &now, &sign("another secret", &now, body.as_bytes()))
        .await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    let unsigned = stage.worker.post("/api/v1/slack", body).await;
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    let metrics = stage.worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_rejected_total{intake="slack",reason="unauthorized"} 3"#),
        "{metrics}"
    );
    let answer = stage.slack_sends("nothing=1").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let without = TestWorker::start(|_| ()).await;
    assert_eq!(
        without.post("/api/v1/slack", "x=1").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn slack_asks_for_incidents_and_people_judge_reports() {
    let mut stage = Stage::start(|_| ()).await;
    let finished = stage.drift().await;
    let id = finished.report.incident.id.clone();
    let list = stage
        .slack_sends(&form(&[("command", "/plumbline"), ("text", "incidents")]))
        .await;
    let list = list.json()["text"].as_str().expect("text").to_owned();
    assert!(list.contains(&id) && list.contains("P0: churn:"), "{list}");
    let report = stage
        .slack_sends(&form(&[
            ("command", "/plumbline"),
            ("text", &format!("report {id}")),
        ]))
        .await;
    assert!(report.text().contains("Model churn"), "{}", report.text());
    let missing = stage
        .slack_sends(&form(&[("command", "/plumbline"), ("text", "report <!channel>")]))
        .await;
    assert!(
        missing.text().contains("There is no report of &lt;!channel&gt;."),
        "{}",
        missing.text()
    );
    stage.until(|slack| !slack.threads().is_empty()).await;
    let value = stage.slack.threads()[0]
        .button("report_wrong_cause")
        .expect("a button");
    let before = stage.slack.responses().len();
    stage
        .press("U0BOB", slack::CHANNEL, "report_wrong_cause", &value)
        .await;
    assert!(stage.said(before).await.starts_with("Thank you"));
    stage
        .until(|slack| {
            slack.threads()[0]
                .text()
                .contains("0 found it useful, 1 say wrong cause")
        })
        .await;
    let metrics = stage.worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_verdicts_total{verdict="wrong_cause"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_console_decides_with_its_token_from_its_own_pages_only() {
    let mut stage = Stage::start(|_| ()).await;
    stage.drift().await;
    let page = stage.worker.get("/approvals").await.text();
    assert!(
        page.contains("Train churn again") && page.contains("acme/models/retrain.yml@main"),
        "{page}"
    );
    let after = |text: &str, start: &str| {
        let from = text.find(start).unwrap_or_else(|| panic!("{start}: {text}")) + start.len();
        text[from..].split('"').next().unwrap_or_default().to_owned()
    };
    let action = after(&page, "action=\"");
    let digest = after(&page, "name=\"digest\" value=\"");
    let fields = |token: &str, name: &str, digest: &str| {
        form(&[
            ("token", token),
            ("name", name),
            ("choice", "approve"),
            ("digest", digest),
        ])
    };
    let host = stage.worker.url.trim_start_matches("http://").to_owned();
    let send = async |origin: &str, body: String| {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", host.as_str()),
            ("origin", origin),
        ];
        stage.worker.send(Method::POST, &action, &headers, body).await
    };
    let own = stage.worker.url.clone();
    for (origin, body, status, expected) in [
        (
            "http://evil.example",
            fields(CONSOLE, "ann", &digest),
            StatusCode::FORBIDDEN,
            "not sent by a page",
        ),
        (
            "null",
            fields(CONSOLE, "ann", &digest),
            StatusCode::FORBIDDEN,
            "not sent by a page",
        ),
        (
            &own,
            fields("guess", "ann", &digest),
            StatusCode::FORBIDDEN,
            "not the right one",
        ),
        (
            &own,
            fields(CONSOLE, " ", &digest),
            StatusCode::BAD_REQUEST,
            "A name is needed",
        ),
        (
            &own,
            fields(CONSOLE, "ann", &"0".repeat(64)),
            StatusCode::CONFLICT,
            "not the one that was shown",
        ),
    ] {
        let answer = send(origin, body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(expected), "{expected}: {}", answer.text());
    }
    let answer = send(&own, fields(CONSOLE, "ann", &digest)).await;
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (StatusCode::SEE_OTHER, &"/approvals".parse().expect("a value"))
    );
    let answer = send(&own, fields(CONSOLE, "bob", &digest)).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.text().contains("approved by console:ann"),
        "{}",
        answer.text()
    );
    stage
        .until(|slack| {
            slack
                .threads()
                .first()
                .is_some_and(|message| message.text().contains("Retraining was started"))
        })
        .await;
    assert_eq!(stage.github.dispatches(REPOSITORY).len(), 1);
    let page = stage.worker.get("/audit").await.text();
    assert!(page.contains("console:ann") && page.contains("Head"), "{page}");
}

#[tokio::test]
async fn pages_without_a_token_only_show() {
    let mut stage = Stage::start(|config| config.actions.console_token = None).await;
    stage.drift().await;
    let page = stage.worker.get("/approvals").await.text();
    assert!(
        page.contains("console_token") && !page.contains("<form"),
        "{page}"
    );
    let answer = stage.worker.post("/approvals/1", "choice=approve").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_service_that_is_away_or_loses_answers_gets_each_effect_once() {
    let stage = {
        let mut stage = Stage::start(|_| ()).await;
        stage.slack.fail("chat.postMessage", 1, slack::Fault::AnswerLost);
        stage
            .github
            .fail(&Method::POST, "/issues", 1, github::Fault::AnswerLost);
        stage.drift().await;
        stage
    };
    stage
        .until(|slack| {
            slack
                .threads()
                .first()
                .is_some_and(|message| message.text().contains("|GitHub>"))
        })
        .await;
    assert_eq!(stage.slack.messages().len(), 1, "found, not posted again");
    assert_eq!(
        stage.github.issues(REPOSITORY).len(),
        1,
        "found, not opened again"
    );
    let metrics = stage.worker.metrics();
    for expected in [
        r#"plumbline_worker_effects_total{action="slack_message",outcome="found"} 1"#,
        r#"plumbline_worker_effects_total{action="github_issue",outcome="found"} 1"#,
        r#"plumbline_worker_effects_total{action="slack_message",outcome="retried"} 1"#,
    ] {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
}

#[tokio::test]
async fn an_effect_that_cannot_be_made_is_shown_and_can_be_retried() {
    let mut stage = Stage::start(|_| ()).await;
    stage
        .slack
        .fail("chat.postMessage", 1, slack::Fault::Error("invalid_blocks"));
    stage.drift().await;
    stage.until(|slack| slack.received_so_far() >= 1).await;
    let dead = async {
        loop {
            let page = stage.worker.get("/outbox").await.text();
            if page.contains("Given up") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    let page = tokio::time::timeout(PATIENCE, dead).await.expect("in time");
    assert!(page.contains("Slack: chat.postMessage: invalid_blocks"), "{page}");
    let from = page.find("/outbox/").expect("a form");
    let path = page[from..].split('"').next().expect("an address").to_owned();
    let host = stage.worker.url.trim_start_matches("http://").to_owned();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", host.as_str()),
        ("origin", stage.worker.url.as_str()),
    ];
    let body = form(&[("token", CONSOLE), ("name", "ann")]);
    let answer = stage
        .worker
        .send(Method::POST, &path, &headers, body.clone())
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    stage.until(|slack| slack.threads().len() == 1).await;
    let answer = stage.worker.send(Method::POST, &path, &headers, body).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}
