//! The calls themselves: each looks for what an earlier try may have made before it makes it.

use std::collections::BTreeMap;
use std::time::Duration;

use plumbline_service::config::ParseSetting as _;

use super::{Outbox, issue};
use crate::action::{Action, Occasion, Receipt};
use crate::github::{self, GitHub, Repository};
use crate::policy::Workflow;
use crate::slack::message;
use crate::slack::{Slack, SlackError};
use crate::store::{Effect, Failure, Retry, Told};
use crate::text::{one_line, sanitise};

impl Outbox {
    /// Makes an effect, or finds it.
    ///
    /// # Errors
    /// [`Failure`], which says whether the effect may be there all the same.
    pub(super) async fn make(&self, effect: &Effect) -> Result<Receipt, Failure> {
        let told = self.store.told(&effect.incident).await.map_err(|error| Failure {
            error: plumbline_service::error_chain(&error),
            uncertain: effect.uncertain,
            retry: Retry::After(None),
        })?;
        let Some(told) = told else {
            return Err(never("the incident has no report".to_owned()));
        };
        match effect.action {
            Action::SlackMessage => self.slack_message(effect, &told).await,
            Action::SlackUpdate => self.slack_update(effect, &told).await,
            Action::SlackReply => self.slack_reply(effect, &told).await,
            Action::GithubIssue => self.issue(effect, &told).await,
            Action::GithubComment => self.comment(effect, &told).await,
            Action::RetrainDispatch => self.retrain(effect).await,
        }
    }

    async fn slack_message(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        if let Some(ts) = found_message(slack, effect, None).await? {
            return Ok(receipt(&effect.target, ts, None, true));
        }
        let message = message::incident(told, &self.links);
        let ts = slack.post(&effect.target, None, &message, &effect.key).await;
        Ok(receipt(
            &effect.target,
            ts.map_err(|error| of_slack(&error))?,
            None,
            false,
        ))
    }

    async fn slack_reply(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        let thread = thread(told)?;
        if let Some(ts) = found_message(slack, effect, Some(thread)).await? {
            return Ok(receipt(&thread.place, ts, None, true));
        }
        let message = match effect.occasion {
            Occasion::Recovered => message::recovered(told, &self.links),
            Occasion::Report | Occasion::Status => message::revision(&told.report, &self.links),
        };
        let ts = slack
            .post(&thread.place, Some(&thread.reference), &message, &effect.key)
            .await;
        Ok(receipt(
            &thread.place,
            ts.map_err(|error| of_slack(&error))?,
            None,
            false,
        ))
    }

    /// Does the same however often it is done.
    async fn slack_update(&self, _effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let slack = self.slack()?;
        let thread = thread(told)?;
        let message = message::incident(told, &self.links);
        slack
            .update(&thread.place, &thread.reference, &message)
            .await
            .map_err(|error| Failure {
                uncertain: false,
                ..of_slack(&error)
            })?;
        Ok(receipt(&thread.place, thread.reference.clone(), None, false))
    }

    async fn issue(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let repository = repository(&effect.target)?;
        if effect.uncertain {
            let found = github
                .find_issue(&repository, &issue::marker_of(&effect.key))
                .await;
            if let Some(issue) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &effect.target,
                    issue.number.to_string(),
                    Some(issue.html_url),
                    true,
                ));
            }
        }
        let issue = issue::issue(told, &effect.key, &self.links);
        let issue = github.create_issue(&repository, &issue).await;
        let issue = issue.map_err(|error| of_github(&error))?;
        Ok(receipt(
            &effect.target,
            issue.number.to_string(),
            Some(issue.html_url),
            false,
        ))
    }

    async fn comment(&self, effect: &Effect, told: &Told) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let of = told.issue.as_ref();
        let of = of.ok_or_else(|| never("the incident has no issue".to_owned()))?;
        let repository = repository(&of.place)?;
        let number = of.reference.parse();
        let number =
            number.map_err(|_| never(format!("`{}` is not the number of an issue", of.reference)))?;
        if effect.uncertain {
            let marker = issue::marker_of(&effect.key);
            let found = github.find_comment(&repository, number, &marker).await;
            if let Some(comment) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &of.place,
                    comment.id.to_string(),
                    Some(comment.html_url),
                    true,
                ));
            }
        }
        let body = match effect.occasion {
            Occasion::Recovered => issue::recovered(told, &effect.key),
            Occasion::Report | Occasion::Status => issue::revision(told, &effect.key, &self.links),
        };
        let comment = github.comment(&repository, number, &body).await;
        let comment = comment.map_err(|error| of_github(&error))?;
        Ok(receipt(
            &of.place,
            comment.id.to_string(),
            Some(comment.html_url),
            false,
        ))
    }

    /// The workflow puts `key` into its `run-name`; that is how a run is found again.
    async fn retrain(&self, effect: &Effect) -> Result<Receipt, Failure> {
        let github = self.github()?;
        let workflow = Workflow::parse_setting(&effect.target).map_err(never)?;
        if effect.uncertain {
            let found = github
                .find_dispatched(&workflow.repository, &workflow.file, &effect.key)
                .await;
            if let Some(run) = found.map_err(|error| not_looked(&error))? {
                return Ok(receipt(
                    &effect.target,
                    run.id.to_string(),
                    Some(run.html_url),
                    true,
                ));
            }
        }
        let inputs = BTreeMap::from([
            ("key".to_owned(), effect.key.clone()),
            ("incident".to_owned(), effect.incident.clone()),
            ("model".to_owned(), effect.model.clone().unwrap_or_default()),
        ]);
        github
            .dispatch(&workflow.repository, &workflow.file, &workflow.git_ref, &inputs)
            .await
            .map_err(|error| of_github(&error))?;
        Ok(receipt(&effect.target, String::new(), None, false))
    }

    fn slack(&self) -> Result<&Slack, Failure> {
        self.slack
            .as_ref()
            .ok_or_else(|| never("Slack is not configured any more (slack_token)".to_owned()))
    }

    fn github(&self) -> Result<&GitHub, Failure> {
        self.github
            .as_ref()
            .ok_or_else(|| never("GitHub is not configured any more (github_token)".to_owned()))
    }
}

async fn found_message(
    slack: &Slack,
    effect: &Effect,
    thread: Option<&Receipt>,
) -> Result<Option<String>, Failure> {
    if !effect.uncertain {
        return Ok(None);
    }
    let (channel, ts) = match thread {
        Some(thread) => (&thread.place, Some(thread.reference.as_str())),
        None => (&effect.target, None),
    };
    // Slack's clock need not be ours.
    let since = effect.tried_at - 60_000;
    slack
        .find(channel, ts, &effect.key, since)
        .await
        .map_err(|error| Failure {
            uncertain: true,
            ..of_slack(&error)
        })
}

fn thread(told: &Told) -> Result<&Receipt, Failure> {
    told.message
        .as_ref()
        .ok_or_else(|| never("the incident has no message".to_owned()))
}

fn repository(text: &str) -> Result<Repository, Failure> {
    Repository::parse(text).ok_or_else(|| never(format!("`{text}` is not a repository")))
}

fn receipt(place: &str, reference: String, url: Option<String>, found: bool) -> Receipt {
    Receipt {
        place: place.to_owned(),
        reference,
        url: url.filter(|url| !url.is_empty()),
        found,
    }
}

fn of_slack(error: &SlackError) -> Failure {
    Failure {
        error: line(&error.to_string()),
        uncertain: error.is_uncertain(),
        retry: retry(error.is_permanent(), error.retry_after()),
    }
}

fn of_github(error: &github::Error) -> Failure {
    let uncertain = match error {
        github::Error::NotReached { .. } | github::Error::Answer { .. } => true,
        github::Error::Refused { status, .. } => status.is_server_error(),
    };
    Failure {
        error: line(&error.to_string()),
        uncertain,
        // What may be there is looked for, whatever the answer was.
        retry: retry(error.is_permanent() && !uncertain, error.retry_after()),
    }
}

/// Whether an effect is there could not be found out.
fn not_looked(error: &github::Error) -> Failure {
    Failure {
        uncertain: true,
        ..of_github(error)
    }
}

fn retry(is_permanent: bool, after: Option<Duration>) -> Retry {
    if is_permanent {
        Retry::Never
    } else {
        Retry::After(after)
    }
}

fn never(error: String) -> Failure {
    Failure {
        error,
        uncertain: false,
        retry: Retry::Never,
    }
}

fn line(text: &str) -> String {
    one_line(&sanitise(text), 300)
}
