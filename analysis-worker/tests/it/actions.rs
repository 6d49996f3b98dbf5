//! From a signal to Slack, GitHub and a retraining, and what people decide on the way.

mod console;
mod slack;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use plumbline_analysis_worker::{
    Actions, Approval, Config, FinishedReport, Policy, Repository, RetrainPolicy, SlackConfig, Workflow,
};
use plumbline_testkit::github::{self, FakeGitHub};
use plumbline_testkit::slack::{self as fake_slack, FakeSlack, sign};
use serde_json::{Value, json};

use crate::support::{Answer, PATIENCE, TestWorker, drift_event};

pub(crate) const REPOSITORY: &str = "acme/models";
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const CONSOLE: &str = "console-token-of-the-test";

/// Slack and GitHub, and a worker that uses both.
struct Stage {
    slack: FakeSlack,
    github: FakeGitHub,
    worker: TestWorker,
}

/// A GitHub with the repository and its workflow.
pub(crate) async fn github() -> FakeGitHub {
    let github = FakeGitHub::start().await;
    github.add_repository(REPOSITORY);
    github.add_workflow(REPOSITORY, "retrain.yml", &["key", "incident", "model"]);
    github
}

/// Everything is done outside, retraining after approval.
fn actions(slack: &FakeSlack) -> Actions {
    let repository = Repository::parse(REPOSITORY).expect("a name");
    Actions {
        policy: Policy {
            slack: Some(fake_slack::CHANNEL.to_owned()),
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
            token: fake_slack::TOKEN.to_owned(),
            base_url: slack.url().parse().expect("a URL"),
            channel: fake_slack::CHANNEL.to_owned(),
            signing_secret: Some(SECRET.to_owned()),
            approvers: vec!["U0ALICE".to_owned()],
        }),
        public_url: Some("https://plumbline.example".parse().expect("a URL")),
        console_token: Some(CONSOLE.to_owned()),
    }
}

/// Settings of a worker that uses both.
pub(crate) fn acting(config: &mut Config, slack: &FakeSlack, github: &FakeGitHub) {
    config.actions = actions(slack);
    config.github.token = Some(github::TOKEN.to_owned());
    config.github.base_url = github.url().parse().expect("a URL");
}

impl Stage {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let (slack, github) = (FakeSlack::start().await, github().await);
        let worker = TestWorker::start(|config| {
            acting(config, &slack, &github);
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
async fn a_service_that_is_away_or_loses_answers_gets_each_effect_once() {
    let stage = {
        let mut stage = Stage::start(|_| ()).await;
        stage
            .slack
            .fail("chat.postMessage", 1, fake_slack::Fault::AnswerLost);
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
async fn a_service_that_hangs_holds_up_no_other() {
    let (slack, github) = (FakeSlack::holding().await, github().await);
    let mut worker = TestWorker::start(|config| acting(config, &slack, &github)).await;
    worker.post("/api/v1/events", drift_event().to_string()).await;
    worker.report().await;
    let opened = async {
        while github.issues(REPOSITORY).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("opened");
    tokio::time::timeout(PATIENCE, slack.received(1))
        .await
        .expect("asked");
    assert_eq!(slack.messages(), []);
    // It does not hold up the end of the process either.
    worker.stop().await;
    assert_eq!(slack.messages(), []);
}
