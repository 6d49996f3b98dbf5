//! Decides what a report leads to. Pure functions of the report and of what was done before: a model's wording cannot
//! reach them, except that a report which does not recommend retraining holds it back.

mod retrain;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::github::Repository;
use crate::report::{Report, Urgency};

pub use retrain::{Approval, RetrainPolicy, Workflow};

/// What may be done where. Part of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Channel in which every report is told.
    pub slack: Option<String>,
    /// Repository in which P0 and P1 open issues.
    pub issues: Option<Repository>,
    /// How models are trained again.
    pub retrain: Option<RetrainPolicy>,
    /// How long an incident has to be over before that is told: one that fires again sooner has told nothing. Twice as
    /// long after each time that it did.
    pub recovery_delay: Duration,
    /// Trouble that comes back within this is the same incident, without a new report.
    pub reopen_window: Duration,
}

impl Policy {
    /// Nothing is done outside.
    pub fn nothing() -> Self {
        Self {
            slack: None,
            issues: None,
            retrain: None,
            recovery_delay: Duration::from_mins(5),
            reopen_window: Duration::from_hours(1),
        }
    }
}

/// What was done before, read in the transaction that the decision is kept in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub(crate) struct History {
    /// The incident has its message.
    pub(crate) message: bool,
    /// It has its issue.
    pub(crate) issue: bool,
    /// A retraining was started for it, or waits to be.
    pub(crate) retrain: bool,
    /// Its signals have stopped.
    pub(crate) is_over: bool,
    /// When the last retraining of this model was asked for, in milliseconds since 1970.
    pub(crate) last_retrain: Option<i64>,
    /// Retrainings of any model asked for in the last 24 hours.
    pub(crate) retrains_of_the_day: u32,
}

/// What policy says to one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It is done.
    Allowed,
    /// It is done when a person agrees.
    NeedsApproval,
    /// It is not done.
    Held,
}

impl Verdict {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::NeedsApproval => "needs_approval",
            Self::Held => "held",
        }
    }

    /// For people.
    pub(crate) fn title(text: &str) -> &'static str {
        match text {
            "allowed" => "allowed",
            "needs_approval" => "needs approval",
            _ => "held back",
        }
    }
}

/// A decision with the rules that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) action: Action,
    pub(crate) verdict: Verdict,
    /// One sentence each.
    pub(crate) reasons: Vec<String>,
}

impl Decision {
    fn new(action: Action, verdict: Verdict, reasons: Vec<String>) -> Self {
        Self {
            action,
            verdict,
            reasons,
        }
    }
}

/// One decision for each of Slack, GitHub and retraining. `now` is in milliseconds since 1970.
pub(crate) fn decide(policy: &Policy, report: &Report, history: &History, now: i64) -> Vec<Decision> {
    vec![
        message(policy, report, history),
        issue(policy, report, history),
        retrain::decide(policy.retrain.as_ref(), report, history, now),
    ]
}

/// Every report is told in Slack, once per incident; later revisions go into its thread.
fn message(policy: &Policy, report: &Report, history: &History) -> Decision {
    if policy.slack.is_none() {
        let reason = "Slack is not configured (slack_token, slack_channel)".to_owned();
        return Decision::new(Action::SlackMessage, Verdict::Held, vec![reason]);
    }
    let (action, reason) = if history.message {
        (
            Action::SlackReply,
            "the incident has its message: this goes into the thread".to_owned(),
        )
    } else {
        (
            Action::SlackMessage,
            format!("{}: every report is told", report.urgency.as_str()),
        )
    };
    Decision::new(action, Verdict::Allowed, vec![reason])
}

/// P0 and P1 open an issue, once per incident; later revisions are comments on it.
fn issue(policy: &Policy, report: &Report, history: &History) -> Decision {
    let held = |reason: String| Decision::new(Action::GithubIssue, Verdict::Held, vec![reason]);
    if policy.issues.is_none() {
        return held("no repository for issues is configured (github_token, github_issues)".to_owned());
    }
    let urgency = report.urgency.as_str();
    if history.issue {
        let reason = "the incident has its issue: this is a comment on it".to_owned();
        return Decision::new(Action::GithubComment, Verdict::Allowed, vec![reason]);
    }
    if report.urgency > Urgency::P1 {
        return held(format!("urgency is {urgency}: an issue needs P1 or P0"));
    }
    let reason = format!("urgency is {urgency}: P1 and P0 open an issue");
    Decision::new(Action::GithubIssue, Verdict::Allowed, vec![reason])
}

#[cfg(test)]
pub(crate) mod tests;
