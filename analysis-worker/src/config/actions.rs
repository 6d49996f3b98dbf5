//! Settings of what is done outside: Slack, issues, retraining, and who may decide.

use std::time::Duration;

use http::Uri;
use plumbline_service::config::{Reader, Setting};

use crate::policy::{Approval, Policy, RetrainPolicy};

/// Settings of actions.
pub(super) const SETTINGS: [Setting; 16] = [
    Setting::new(
        "public_url",
        "URL",
        "Where people reach the pages; messages and issues link there.",
    ),
    Setting::secret(
        "console_token",
        "TOKEN",
        "What a person enters on the pages to approve, to judge a report or to retry; without it, pages only show.",
    ),
    Setting::secret(
        "slack_token",
        "TOKEN",
        "Bot token (xoxb-…) with chat:write and channels:history (groups:history in a private channel); SLACK_BOT_TOKEN is read too.",
    )
    .shared_variable("SLACK_BOT_TOKEN"),
    Setting::new(
        "slack_channel",
        "ID",
        "Id of the channel (C…) in which every report is told; the app has to be in it.",
    ),
    Setting::secret(
        "slack_signing_secret",
        "SECRET",
        "With what Slack signs commands and buttons, which it sends to /api/v1/slack; nothing is taken there without it.",
    ),
    Setting::repeated(
        "slack_approver",
        "USER",
        "Id of a person (U…) whose buttons approve; without any, everybody's in the channel do.",
    ),
    Setting::new("slack_url", "URL", "Where Slack's Web API is.").default("https://slack.com/api"),
    Setting::new(
        "github_issues",
        "OWNER/REPO",
        "Repository in which P0 and P1 open an issue; needs github_token with write access to issues.",
    ),
    Setting::new(
        "retrain_workflow",
        "OWNER/REPO/FILE@REF",
        "Workflow that trains a model again; needs github_token with write access to actions. Its inputs are key, incident and model, its run-name has to contain the key.",
    ),
    Setting::new(
        "retrain_approval",
        "WHO",
        "required: a person has to agree to a retraining; automatic: policy alone decides.",
    )
    .default("required"),
    Setting::new(
        "retrain_cooldown",
        "TIME",
        "Time between two retrainings of one model.",
    )
    .default("24h"),
    Setting::new(
        "retrain_daily_cap",
        "N",
        "Most retrainings of all models in 24 hours.",
    )
    .default("3"),
    Setting::new(
        "retrain_min_effect",
        "EFFECT",
        "Effect, on the scale of the PSI, that a drifted subject must have.",
    )
    .default("0.25"),
    Setting::new(
        "approval_expiry",
        "TIME",
        "How long a request for approval stands.",
    )
    .default("24h"),
    Setting::new(
        "recovery_delay",
        "TIME",
        "How long an incident has to be over before that is told; twice as long each time that it came back.",
    )
    .default("5m"),
    Setting::new(
        "reopen_window",
        "TIME",
        "Trouble that comes back within this time is the same incident, without a new report.",
    )
    .default("1h"),
];

/// How Slack is spoken to.
#[derive(Clone)]
pub struct SlackConfig {
    /// Sent as a bearer token, never logged.
    pub token: String,
    /// Scheme, host, port, and the path below which the methods are.
    pub base_url: Uri,
    /// Id of the channel.
    pub channel: String,
    /// What commands and buttons are signed with.
    pub signing_secret: Option<String>,
    /// Ids of the people whose buttons approve; everybody's when empty.
    pub approvers: Vec<String>,
}

impl std::fmt::Debug for SlackConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlackConfig")
            .field("token", &"***")
            .field("base_url", &self.base_url)
            .field("channel", &self.channel)
            .field("signing_secret", &self.signing_secret.as_ref().map(|_| "***"))
            .field("approvers", &self.approvers)
            .finish()
    }
}

/// What is done outside, and who may decide.
#[derive(Clone)]
pub struct Actions {
    /// What reports lead to.
    pub policy: Policy,
    /// Slack, where it is used.
    pub slack: Option<SlackConfig>,
    /// Where people reach the pages.
    pub public_url: Option<Uri>,
    /// What a person enters on the pages to decide.
    pub console_token: Option<String>,
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions")
            .field("policy", &self.policy)
            .field("slack", &self.slack)
            .field("public_url", &self.public_url)
            .field("console_token", &self.console_token.as_ref().map(|_| "***"))
            .finish()
    }
}

impl Actions {
    /// Nothing is done, and the pages only show.
    pub fn nothing() -> Self {
        Self {
            policy: Policy::nothing(),
            slack: None,
            public_url: None,
            console_token: None,
        }
    }

    /// Reads them; problems stay with the reader. `has_github` says whether there is a token for GitHub.
    pub(super) fn read(reader: &mut Reader, has_github: bool) -> Self {
        let slack = read_slack(reader);
        let issues = reader.optional("github_issues");
        reader.check(
            "github_issues",
            issues.is_none() || has_github,
            "needs github_token",
        );
        let workflow = reader.optional("retrain_workflow");
        reader.check(
            "retrain_workflow",
            workflow.is_none() || has_github,
            "needs github_token",
        );
        let approval: Approval = reader.value("retrain_approval");
        let cooldown: Duration = reader.value("retrain_cooldown");
        let daily_cap: u32 = reader.value("retrain_daily_cap");
        let min_effect: f64 = reader.value("retrain_min_effect");
        reader.check("retrain_min_effect", min_effect > 0.0, "must be more than 0");
        let expiry: Duration = reader.value("approval_expiry");
        reader.check(
            "approval_expiry",
            expiry >= Duration::from_secs(1),
            "must be at least 1s",
        );
        let console_token: Option<String> = reader.optional("console_token");
        let long_enough = console_token.as_ref().is_none_or(|token| token.len() >= 12);
        reader.check("console_token", long_enough, "must have at least 12 characters");
        Self {
            policy: Policy {
                slack: slack.as_ref().map(|slack| slack.channel.clone()),
                issues,
                retrain: workflow.map(|workflow| RetrainPolicy {
                    workflow,
                    approval,
                    cooldown,
                    daily_cap,
                    min_effect,
                    expiry,
                }),
                recovery_delay: reader.value("recovery_delay"),
                reopen_window: reader.value("reopen_window"),
            },
            slack,
            public_url: reader.optional("public_url"),
            console_token,
        }
    }

    /// Every secret among them.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let slack = self.slack.iter();
        let slack = slack.flat_map(|slack| [Some(slack.token.as_str()), slack.signing_secret.as_deref()]);
        slack.chain([self.console_token.as_deref()]).flatten()
    }
}

fn read_slack(reader: &mut Reader) -> Option<SlackConfig> {
    let token: Option<String> = reader.optional("slack_token");
    let channel: Option<String> = reader.optional("slack_channel");
    let signing_secret: Option<String> = reader.optional("slack_signing_secret");
    let approvers: Vec<String> = reader.list("slack_approver");
    let base_url: Uri = reader.value("slack_url");
    let printable = token
        .as_ref()
        .is_none_or(|token| token.chars().all(|c| c.is_ascii_graphic()));
    reader.check("slack_token", printable, "must be printable ASCII without blanks");
    let is_id = |id: &String, kinds: &[char]| {
        id.len() >= 3
            && id.starts_with(kinds)
            && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    reader.check(
        "slack_channel",
        channel.as_ref().is_none_or(|id| is_id(id, &['C', 'G', 'D'])),
        "must be the id of a channel such as C0123456789, not its name",
    );
    reader.check(
        "slack_approver",
        approvers.iter().all(|id| is_id(id, &['U', 'W'])),
        "must be ids of people such as U0123456789, not their names",
    );
    match (token, channel) {
        (Some(token), Some(channel)) => Some(SlackConfig {
            token,
            base_url,
            channel,
            signing_secret,
            approvers,
        }),
        (None, None) => {
            reader.check(
                "slack_signing_secret",
                signing_secret.is_none(),
                "needs slack_token and slack_channel",
            );
            None
        }
        (Some(_), None) => {
            reader.reject("slack_channel", "is needed with slack_token");
            None
        }
        (None, Some(_)) => {
            reader.reject("slack_token", "is needed with slack_channel");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::{Common, Outcome, Problems, load};

    use super::*;
    use crate::config::{Config, PORTS, SETTINGS};

    fn read(arguments: &[&str]) -> Result<(Actions, String), Problems> {
        let arguments = arguments.iter().map(ToString::to_string);
        let settings = Common::settings(PORTS.0, PORTS.1);
        let read = load(
            "analysis-worker",
            &[&settings, SETTINGS],
            arguments,
            [],
            Config::read,
        )?;
        match read {
            Outcome::Start { config, shown } => Ok((config.1.actions, shown.to_string())),
            other => panic!("a configuration, not {other:?}"),
        }
    }

    #[test]
    fn nothing_is_done_outside_unless_it_is_configured() {
        let (actions, _) = read(&[]).expect("valid");
        assert_eq!(actions.policy, Policy::nothing());
        assert!(actions.slack.is_none() && actions.console_token.is_none());
    }

    #[test]
    fn a_retraining_needs_a_person_unless_somebody_says_otherwise() {
        let workflow = [
            "--github-token=t",
            "--retrain-workflow=acme/models/retrain.yml@main",
        ];
        let (actions, _) = read(&workflow).expect("valid");
        let retrain = actions.policy.retrain.expect("configured");
        assert_eq!(retrain.approval, Approval::Required);
        assert_eq!(
            (retrain.cooldown, retrain.daily_cap),
            (Duration::from_hours(24), 3)
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let (actions, shown) = read(&[
            "--slack-token=xoxb-secret-1",
            "--slack-channel=C0123",
            "--slack-signing-secret=secret-2",
            "--console-token=secret-3-is-long",
        ])
        .expect("valid");
        let secrets: Vec<&str> = actions.secrets().collect();
        assert_eq!(secrets, ["xoxb-secret-1", "secret-2", "secret-3-is-long"]);
        let debug = format!("{actions:?}");
        for secret in secrets {
            assert!(!shown.contains(secret) && !debug.contains(secret), "{secret}");
        }
    }

    #[test]
    fn problems_are_told_together() {
        let text = read(&[
            "--slack-token=xoxb-1",
            "--slack-approver=@alice",
            "--github-issues=acme/models",
            "--retrain-workflow=acme/models/retrain.yml@main",
            "--retrain-approval=never",
            "--retrain-min-effect=0",
            "--console-token=short",
        ])
        .expect_err("seven problems")
        .to_string();
        for expected in [
            "7 problems",
            "slack_channel",
            "ids of people",
            "github_issues",
            "retrain_workflow",
            "required or automatic",
            "retrain_min_effect",
            "at least 12 characters",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
