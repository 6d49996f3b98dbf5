//! What the worker may do outside: a closed set. Nothing that is not named here can be done.

use crate::metrics::{Label, label};

label! {
    /// One call to a service outside.
    Action {
        /// The first message of an incident, which begins its thread.
        SlackMessage = "slack_message",
        /// Brings that message up to date.
        SlackUpdate = "slack_update",
        /// A message in the thread.
        SlackReply = "slack_reply",
        /// The issue of an incident.
        GithubIssue = "github_issue",
        /// A comment on it.
        GithubComment = "github_comment",
        /// Starts the workflow that trains the model again.
        RetrainDispatch = "retrain_dispatch",
    }
}

label! {
    /// Where effects wait in line: one after the other within a lane, and no lane waits for another.
    Lane { Slack = "slack", GithubIssues = "github_issues", GithubActions = "github_actions" }
}

impl Action {
    pub(crate) const fn lane(self) -> Lane {
        match self {
            Self::SlackMessage | Self::SlackUpdate | Self::SlackReply => Lane::Slack,
            Self::GithubIssue | Self::GithubComment => Lane::GithubIssues,
            Self::RetrainDispatch => Lane::GithubActions,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.label() == text)
    }

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::SlackMessage => "Slack message",
            Self::SlackUpdate => "Slack message, update",
            Self::SlackReply => "Slack thread, reply",
            Self::GithubIssue => "GitHub issue",
            Self::GithubComment => "GitHub issue, comment",
            Self::RetrainDispatch => "retraining",
        }
    }
}

/// Name of an action as people read it; the stored one where this program does not know it.
pub(crate) fn title_of(label: &str) -> &str {
    match Action::parse(label) {
        Some(action) => action.title(),
        None => label,
    }
}

/// Why an effect is there; decides what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A revision of the report.
    Report,
    /// The signals have stopped.
    Recovered,
    /// Something that the message shows has changed.
    Status,
}

impl Occasion {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Recovered => "recovered",
            Self::Status => "status",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Report, Self::Recovered, Self::Status]
            .into_iter()
            .find(|occasion| occasion.as_str() == text)
    }
}

/// Where what an effect made is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Receipt {
    /// Slack: id of the channel. GitHub: `OWNER/REPO`.
    pub(crate) place: String,
    /// Slack: `ts` of the message. GitHub: number of the issue, id of the comment or run; empty where none is told.
    pub(crate) reference: String,
    /// For people, where there is one.
    pub(crate) url: Option<String>,
    /// Whether an earlier try had made it: it was found, not made again.
    pub(crate) found: bool,
}
