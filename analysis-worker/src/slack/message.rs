//! What is said in Slack: blocks within its limits, and a text for where blocks are not shown.
//!
//! Limits: 50 blocks, 150 characters of a header, 3,000 of a section, 2,000 of each of 10 fields, 75 of a button, 40,000 of
//! the text; and, nowhere documented, about 13,200 characters of all blocks together. The sizes below add up to less.

use std::fmt::Write as _;

use http::Uri;
use serde_json::{Value, json};

use super::mrkdwn::{inline, plain};
use crate::report::{Findings, Report};
use crate::store::{Retraining, Told};

/// Characters of a header.
const HEADER: usize = 150;
/// Characters of the summary, and of the fallback text.
const SUMMARY: usize = 2_000;
/// Characters of one cause, one affected feature, one remedy.
const ITEM: usize = 500;
/// Causes, features or remedies in one list.
const ITEMS: usize = 3;
/// Characters of the reasons of a retraining.
const REASONS: usize = 1_500;
/// Characters of a field.
const FIELD: usize = 300;

/// `action_id` of the buttons.
pub(crate) const APPROVE: &str = "approve_retraining";
pub(crate) const REJECT: &str = "reject_retraining";
pub(crate) const USEFUL: &str = "report_useful";
pub(crate) const WRONG_CAUSE: &str = "report_wrong_cause";

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// Shown in notifications.
    text: String,
    blocks: Vec<Value>,
}

impl Message {
    /// The request's body.
    pub(super) fn body(&self, channel: &str) -> Value {
        json!({"channel": channel, "text": self.text, "blocks": self.blocks})
    }
}

/// Where the console is, and whether Slack's buttons come back to us.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pub(crate) console: Option<Uri>,
    pub(crate) buttons: bool,
}

impl Links {
    /// Address of a page of the console.
    pub(crate) fn page(&self, path: &str) -> Option<String> {
        let console = self.console.as_ref()?;
        Some(format!("{}{path}", console.to_string().trim_end_matches('/')))
    }

    /// Address of an incident's page.
    pub(crate) fn incident(&self, id: &str) -> Option<String> {
        self.page(&format!("/incidents/{id}"))
    }
}

/// The first message of an incident, as things stand now.
pub(crate) fn incident(told: &Told, links: &Links) -> Message {
    let report = &told.report;
    let over = told.incident.resolved_at.as_deref();
    let state = if over.is_some() {
        "recovered"
    } else {
        report.urgency.as_str()
    };
    let mut blocks = vec![
        json!({"type": "header", "text": {
            "type": "plain_text", "text": plain(&format!("{state} · {}", told.incident.title), HEADER),
        }}),
        section(&inline(report.findings.summary(), SUMMARY)),
        fields(told),
    ];
    match &report.findings {
        Findings::Incident(findings) => {
            let causes = findings.root_causes.iter().map(|cause| {
                format!(
                    "{} ({:.0} %): {}",
                    cause.hypothesis,
                    cause.confidence * 100.0,
                    cause.remediation.action
                )
            });
            blocks.extend(list("Possible causes", causes));
        }
        Findings::Drift(findings) => {
            let affected = findings.affected.iter();
            let affected = affected.map(|affected| format!("{}: {}", affected.subject, affected.finding));
            blocks.extend(list("Affected", affected));
            let remedies = findings.remediation.iter();
            let remedies = remedies.map(|remedy| format!("{}: {}", remedy.action.title(), remedy.rationale));
            blocks.extend(list("What to do", remedies));
        }
        Findings::Triage(triage) => {
            let findings = triage.findings.iter();
            let findings = findings.map(|finding| format!("{}: {}", finding.title, finding.fix.action));
            blocks.extend(list(
                &format!("What failed ({})", triage.failure_type.as_str()),
                findings,
            ));
        }
    }
    if let Some(retraining) = &told.retraining {
        blocks.push(section(&retraining_text(retraining)));
    }
    let buttons = buttons(told, links);
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    blocks.push(json!({"type": "context", "elements": [markup(&foot(told))]}));
    Message {
        text: inline(&format!("{state} {}", told.incident.title), SUMMARY),
        blocks,
    }
}

/// A further report, in the thread.
pub(crate) fn revision(report: &Report, links: &Links) -> Message {
    let text = format!("Revision {}: {}", report.revision, report.findings.summary());
    reply(&text, &report.incident.id, links)
}

/// The end of an incident, in the thread.
pub(crate) fn recovered(told: &Told, links: &Links) -> Message {
    reply(&recovery(told), &told.incident.id, links)
}

/// The end of an incident in a sentence or two.
pub(crate) fn recovery(told: &Told) -> String {
    let again = match told.reopened {
        0 => String::new(),
        times => format!(" It came back {times} times before."),
    };
    match &told.incident.resolved_at {
        Some(since) => format!("Recovered: no signal fires since {since}.{again}"),
        None => "The signals had stopped, and fire again.".to_owned(),
    }
}

fn reply(text: &str, incident: &str, links: &Links) -> Message {
    let text = inline(text, SUMMARY);
    let mut shown = text.clone();
    if let Some(url) = links.incident(incident) {
        let _ = write!(shown, "\n<{url}|Report>");
    }
    Message {
        text,
        blocks: vec![section(&shown)],
    }
}

fn markup(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn section(text: &str) -> Value {
    // Slack refuses an empty one.
    let text = if text.is_empty() { "–" } else { text };
    json!({"type": "section", "text": markup(text)})
}

fn fields(told: &Told) -> Value {
    let report = &told.report;
    let mut fields = vec![
        (
            "Urgency",
            format!("{}, {}", report.urgency.as_str(), report.urgency.title()),
        ),
        ("Kind", told.incident.kind.clone()),
        ("Since", told.incident.started_at.clone()),
    ];
    if let Some(model) = &told.incident.model {
        fields.push(("Model", model.clone()));
    }
    if let Some(at) = &told.incident.resolved_at {
        fields.push(("Recovered", at.clone()));
    }
    if told.reopened > 0 {
        fields.push(("Came back", format!("{} times", told.reopened)));
    }
    let mut shown: Vec<Value> = fields
        .iter()
        .map(|(name, value)| markup(&format!("*{name}*\n{}", inline(value, FIELD))))
        .collect();
    if let Some(url) = told.issue.as_ref().and_then(|issue| issue.url.as_deref()) {
        // From GitHub's answer: only an address without Slack's delimiters is linked.
        if url.starts_with("https://") && !url.contains(['<', '>', '|', ' ']) {
            shown.push(markup(&format!("*Issue*\n<{url}|GitHub>")));
        }
    }
    json!({"type": "section", "fields": shown})
}

/// A list of at most [`ITEMS`]; none of nothing.
fn list(title: &str, items: impl ExactSizeIterator<Item = String>) -> Option<Value> {
    let more = items.len().saturating_sub(ITEMS);
    let mut lines: Vec<String> = items
        .take(ITEMS)
        .map(|item| format!("• {}", inline(&item, ITEM)))
        .collect();
    if lines.is_empty() {
        return None;
    }
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    Some(section(&format!("*{title}*\n{}", lines.join("\n"))))
}

/// How a retraining stands, in one paragraph.
fn retraining_text(retraining: &Retraining) -> String {
    let reasons = inline(&retraining.reasons.join("; "), REASONS);
    let workflow = inline(&retraining.workflow, FIELD);
    let (approval, actor) = match &retraining.approval {
        Some(approval) => (approval.state.as_str(), approval.actor.as_deref()),
        None => ("", None),
    };
    let by = actor.map_or_else(String::new, |actor| format!(" by {}", person(actor)));
    match (retraining.state.as_str(), approval) {
        ("waiting", _) => {
            let until = retraining
                .approval
                .as_ref()
                .map_or("", |approval| approval.expires_at.as_str());
            format!("*Retraining waits for approval* until {until}: {workflow}\n{reasons}")
        }
        ("done", _) => format!("*Retraining was started*{by}: {workflow}"),
        ("dead", _) => format!("*Retraining could not be started*: {workflow}; the console says why"),
        ("cancelled", state) => format!("*Retraining was not started*: the request was {state}{by}"),
        _ => format!("*Retraining is being started*{by}: {workflow}"),
    }
}

/// A person of Slack as a mention that notifies nobody who is not in the channel; others by name.
fn person(actor: &str) -> String {
    match actor.strip_prefix("slack:") {
        Some(id) if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()) => format!("<@{id}>"),
        _ => inline(actor, FIELD),
    }
}

fn buttons(told: &Told, links: &Links) -> Vec<Value> {
    let mut buttons = Vec::new();
    let button = |text: &str, id: &str, value: &str| {
        json!({
            "type": "button", "action_id": id, "value": value,
            "text": {"type": "plain_text", "text": text},
        })
    };
    if links.buttons {
        if let Some(Retraining {
            effect,
            state,
            approval: Some(approval),
            ..
        }) = &told.retraining
            && state == "waiting"
        {
            let value = format!("{effect}:{}", approval.digest);
            let mut approve = button("Approve retraining", APPROVE, &value);
            approve["style"] = json!("primary");
            approve["confirm"] = json!({
                "title": {"type": "plain_text", "text": "Start the retraining?"},
                "text": {"type": "plain_text", "text": "The workflow runs once, at once."},
                "confirm": {"type": "plain_text", "text": "Start it"},
                "deny": {"type": "plain_text", "text": "Not yet"},
            });
            let mut reject = button("Reject", REJECT, &value);
            reject["style"] = json!("danger");
            buttons.extend([approve, reject]);
        }
        let report = format!("{}:{}", told.incident.id, told.report.revision);
        buttons.push(button("Useful", USEFUL, &report));
        buttons.push(button("Wrong cause", WRONG_CAUSE, &report));
    }
    if let Some(url) = links.incident(&told.incident.id) {
        buttons.push(json!({
            "type": "button", "action_id": "open_report", "url": url,
            "text": {"type": "plain_text", "text": "Report and plots"},
        }));
    }
    buttons
}

fn foot(told: &Told) -> String {
    let analysis = &told.report.analysis;
    let author = match (&analysis.model, &analysis.fallback) {
        (Some(model), None) => format!("{} ({})", analysis.provider, inline(model, FIELD)),
        _ => "offline, from the evidence alone".to_owned(),
    };
    let verdicts = match told.verdicts {
        (0, 0) => String::new(),
        (useful, wrong) => format!(" · {useful} found it useful, {wrong} say wrong cause"),
    };
    format!(
        "Incident {} · revision {} · analysis: {author}{verdicts}",
        told.incident.id, told.report.revision
    )
}

#[cfg(test)]
mod tests;
