//! What Slack sends: buttons, commands and the check of the address. Everything is signed, and acknowledged within three
//! seconds; what there is to say goes to the address that came along.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Shared;
use super::api::json;
use super::approvals::{keep_verdict, vote};
use super::webhooks::{Unread, problem, whole};
use crate::config::SlackConfig;
use crate::metrics::{Intake, Rejection, VerdictKind};
use crate::signal::now;
use crate::slack::message::{APPROVE, REJECT, USEFUL, WRONG_CAUSE};
use crate::slack::mrkdwn::inline;
use crate::slack::signature;
use crate::store::{Ballot, Choice, Counted, StoreError};

/// Bytes of a request; Slack's are a few kilobytes.
const MAX_BODY: usize = 256 << 10;
/// Lines of an answer to a question.
const LINES: usize = 40;
/// Incidents in an answer to a command.
const LISTED: u32 = 10;

const HELP: &str = "`incidents` lists the newest incidents, `report ID` tells what is known of one, `ask QUESTION` answers from Prometheus, such as `ask p95 latency of churn`.";

/// `POST /api/v1/slack`
pub(super) async fn take(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let rejected = |reason, status, message: &str| {
        shared.metrics.rejected(Intake::Slack, reason);
        problem(status, message)
    };
    let configured = shared.slack.as_ref().and_then(|(_, config)| {
        let secret = config.signing_secret.as_deref()?;
        Some((config, secret))
    });
    let Some((config, secret)) = configured else {
        return problem(
            StatusCode::NOT_FOUND,
            "nothing is taken from Slack: slack_signing_secret is not configured",
        );
    };
    let (head, body) = request.into_parts();
    let body = match whole(body, MAX_BODY).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            return rejected(Rejection::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Err(Unread::Broken(error)) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error),
    };
    let header = |name: &str| text(&head.headers, name);
    let checked = signature::verify(
        secret,
        header("x-slack-request-timestamp"),
        header("x-slack-signature"),
        &body,
        now() / 1000,
    );
    if let Err(forged) = checked {
        return rejected(
            Rejection::Unauthorized,
            StatusCode::UNAUTHORIZED,
            &forged.to_string(),
        );
    }
    let said = match Said::read(&head.headers, &body) {
        Ok(said) => said,
        Err(error) => return rejected(Rejection::Malformed, StatusCode::BAD_REQUEST, &error),
    };
    let answered = match said {
        Said::Challenge(challenge) => return json(StatusCode::OK, &json!({"challenge": challenge})),
        Said::Nothing => return StatusCode::OK.into_response(),
        Said::Command { text, url } => command(&shared, &text, url).await.map(|text| {
            let body = json!({"response_type": "ephemeral", "text": text});
            json(StatusCode::OK, &body)
        }),
        Said::Press(press) => {
            let url = press.response_url.clone();
            press_button(&shared, config, press).await.map(|text| {
                respond(&shared, url, text);
                StatusCode::OK.into_response()
            })
        }
    };
    answered.unwrap_or_else(|error| {
        tracing::error!(error = %plumbline_service::error_chain(&error), "what Slack sent cannot be acted upon");
        // Slack shows the person that it did not work; they press again.
        rejected(
            Rejection::Store,
            StatusCode::SERVICE_UNAVAILABLE,
            "the store cannot be used at the moment",
        )
    })
}

/// What somebody does in Slack.
enum Said {
    Press(Press),
    Command {
        text: String,
        /// Where an answer goes that takes longer than Slack waits.
        url: String,
    },
    Challenge(String),
    /// Something that nothing is to be done about.
    Nothing,
}

/// A button that was pressed.
struct Press {
    action: String,
    value: String,
    user: String,
    channel: String,
    response_url: String,
}

impl Said {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, String> {
        if text(headers, CONTENT_TYPE.as_str()).starts_with("application/json") {
            let event: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
            return Ok(match (event["type"].as_str(), event["challenge"].as_str()) {
                (Some("url_verification"), Some(challenge)) => Self::Challenge(challenge.to_owned()),
                _ => Self::Nothing,
            });
        }
        let fields = form_urlencoded::parse(body);
        if let Some((_, payload)) = fields.clone().find(|(name, _)| name == "payload") {
            let payload: Value =
                serde_json::from_str(&payload).map_err(|error| format!("payload is not JSON: {error}"))?;
            return Self::press(&payload);
        }
        let command = fields.clone().any(|(name, _)| name == "command");
        if command {
            let field = |wanted: &str| {
                let found = fields.clone().find(|(name, _)| name == wanted);
                found.map_or_else(String::new, |(_, text)| text.into_owned())
            };
            return Ok(Self::Command {
                text: field("text"),
                url: field("response_url"),
            });
        }
        Err("expected a payload, a command or an event".to_owned())
    }

    fn press(payload: &Value) -> Result<Self, String> {
        if payload["type"] != "block_actions" {
            return Ok(Self::Nothing);
        }
        let action = &payload["actions"][0];
        let required = |value: &Value, name: &str| {
            let text = value.as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned)
                .ok_or_else(|| format!("payload has no {name}"))
        };
        let user = required(&payload["user"]["id"], "user.id")?;
        if user.len() > 32 || !user.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err("payload.user.id is not the id of a person".to_owned());
        }
        Ok(Self::Press(Press {
            action: required(&action["action_id"], "actions[0].action_id")?,
            // A link has none.
            value: action["value"].as_str().unwrap_or_default().to_owned(),
            user,
            channel: payload["channel"]["id"].as_str().unwrap_or_default().to_owned(),
            response_url: payload["response_url"].as_str().unwrap_or_default().to_owned(),
        }))
    }
}

/// What is said to whoever pressed; nothing where the message itself will show it.
async fn press_button(shared: &Shared, config: &SlackConfig, press: Press) -> Result<String, StoreError> {
    if press.channel != config.channel {
        return Ok("This button belongs to another channel; nothing was done.".to_owned());
    }
    let actor = format!("slack:{}", press.user);
    let parts = press.value.split_once(':');
    match (press.action.as_str(), parts) {
        (APPROVE | REJECT, Some((effect, digest))) => {
            if !config.approvers.is_empty() && !config.approvers.contains(&press.user) {
                return Ok(
                    "You are not among those who decide this (slack_approver); nothing was done.".to_owned(),
                );
            }
            let Ok(effect) = effect.parse() else {
                return Ok("This button is not one of ours; nothing was done.".to_owned());
            };
            let choice = if press.action == APPROVE {
                Choice::Approve
            } else {
                Choice::Reject
            };
            let ballot = Ballot {
                effect,
                digest: digest.to_owned(),
                choice,
                actor,
            };
            Ok(match vote(shared, ballot).await? {
                Counted::Taken { .. } => "Taken; the message will show it.".to_owned(),
                Counted::Refused(reason) => {
                    format!("Your decision does not count: {}.", inline(&reason, 300))
                }
            })
        }
        (USEFUL | WRONG_CAUSE, Some((incident, revision))) => {
            let verdict = if press.action == USEFUL {
                VerdictKind::Useful
            } else {
                VerdictKind::WrongCause
            };
            let revision = revision.parse().unwrap_or(0);
            let kept = keep_verdict(shared, incident.to_owned(), revision, verdict, actor).await?;
            Ok(if kept {
                "Thank you; it is kept with the report.".to_owned()
            } else {
                "There is no such report; nothing was kept.".to_owned()
            })
        }
        _ => Ok(String::new()),
    }
}

/// Tells the person without making Slack wait. The task ends with the call, whose time is bounded.
fn respond(shared: &Shared, url: String, text: String) {
    let slack = shared.slack.as_ref().map(|(slack, _)| slack.clone());
    if let (Some(slack), false, false) = (slack, url.is_empty(), text.is_empty()) {
        tokio::spawn(async move { slack.respond(&url, &text).await });
    }
}

async fn command(shared: &Shared, text: &str, url: String) -> Result<String, StoreError> {
    if let Some(question) = text.trim().strip_prefix("ask ") {
        return Ok(ask(shared, question.to_owned(), url));
    }
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("incidents"), None) => {
            let incidents = shared.store.incidents(LISTED).await?;
            let lines: Vec<String> = incidents
                .iter()
                .map(|incident| {
                    format!(
                        "• {} {}: {} ({})",
                        incident.id,
                        incident.urgency,
                        inline(&incident.title, 200),
                        incident.state
                    )
                })
                .collect();
            Ok(if lines.is_empty() {
                "Nothing has happened yet.".to_owned()
            } else {
                lines.join("\n")
            })
        }
        (Some("report"), Some(id)) => Ok(match shared.store.told(id).await? {
            Some(told) => format!(
                "*{}* {}\n{}",
                told.report.urgency.as_str(),
                inline(&told.incident.title, 200),
                inline(told.report.findings.summary(), 2_000)
            ),
            None => format!("There is no report of {}.", inline(id, 40)),
        }),
        _ => Ok(HELP.to_owned()),
    }
}

/// Answers a question at `url`; says so, or why not, at once.
fn ask(shared: &Shared, question: String, url: String) -> String {
    let slack = shared.slack.as_ref().map(|(slack, _)| slack.clone());
    let (Some(asker), Some(slack)) = (shared.asker.clone(), slack) else {
        return "Questions need Prometheus: the worker has no `prometheus` setting.".to_owned();
    };
    tokio::spawn(async move {
        let answer = match Box::pin(asker.answer(&question)).await {
            Ok(answer) => answer.markdown(),
            Err(error) => error.to_string(),
        };
        slack.respond(&url, &said(&answer)).await;
    });
    "Looking it up …".to_owned()
}

/// Line by line, so that nothing in it is a mention or a link.
fn said(answer: &str) -> String {
    let lines = answer.lines().take(LINES);
    lines.map(|line| inline(line, 600)).collect::<Vec<_>>().join("\n")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
