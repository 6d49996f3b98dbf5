//! When a model may be trained again.

use std::time::Duration;

use plumbline_service::config::ParseSetting;

use super::{Decision, History, Verdict};
use crate::action::Action;
use crate::drift::{Drift, DriftSubject, State, number};
use crate::github::Repository;
use crate::report::{DriftKind, Findings, RemedyAction, Report, Urgency};
use crate::signal::rfc3339;

/// How models are trained again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrainPolicy {
    /// What is started.
    pub workflow: Workflow,
    /// Who has to agree.
    pub approval: Approval,
    /// Time between two retrainings of one model.
    pub cooldown: Duration,
    /// Most retrainings of all models in 24 hours.
    pub daily_cap: u32,
    /// Effect (PSI less what sampling explains) that a drifted subject must have.
    pub min_effect: f64,
    /// How long a request for approval stands.
    pub expiry: Duration,
}

/// A GitHub Actions workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// Where it is.
    pub repository: Repository,
    /// Its file, such as `retrain.yml`.
    pub file: String,
    /// The branch or tag that it runs on.
    pub git_ref: String,
}

impl ParseSetting for Workflow {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected =
            || "expected OWNER/REPO/WORKFLOW.yml@REF such as acme/models/retrain.yml@main".to_owned();
        let (path, git_ref) = text.split_once('@').ok_or_else(expected)?;
        let (repository, file) = path.rsplit_once('/').ok_or_else(expected)?;
        let repository = Repository::parse(repository).ok_or_else(expected)?;
        let is_yaml = matches!(file.rsplit_once('.'), Some((_, "yml" | "yaml")));
        if !is_yaml || !is_name(file) || git_ref.is_empty() {
            return Err(expected());
        }
        Ok(Self {
            repository,
            file: file.to_owned(),
            git_ref: git_ref.to_owned(),
        })
    }
}

impl std::fmt::Display for Workflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.repository, self.file, self.git_ref)
    }
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Who has to agree to a retraining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// A person.
    Required,
    /// Nobody beyond policy.
    Automatic,
}

impl ParseSetting for Approval {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self::Required),
            "automatic" => Ok(Self::Automatic),
            _ => Err("expected required or automatic".to_owned()),
        }
    }
}

/// Retraining needs the urgency of the report, statistical evidence of its drift event and a report that recommends it; and
/// none too soon before. Every rule that is not met is told.
pub(super) fn decide(
    policy: Option<&RetrainPolicy>,
    report: &Report,
    history: &History,
    now: i64,
) -> Decision {
    let decision = |verdict, reasons| Decision::new(Action::RetrainDispatch, verdict, reasons);
    let Some(policy) = policy else {
        let reason = "no workflow is configured (github_token, retrain_workflow)".to_owned();
        return decision(Verdict::Held, vec![reason]);
    };
    let rules = [
        urgency(report),
        evidence(policy, report),
        recommended(report),
        not_over(history),
        once(history),
        cooled_down(policy, history, now),
        below_cap(policy, history),
    ];
    let broken: Vec<String> = rules.iter().filter_map(|rule| rule.clone().err()).collect();
    if !broken.is_empty() {
        return decision(Verdict::Held, broken);
    }
    let mut reasons: Vec<String> = rules.into_iter().filter_map(Result::ok).collect();
    match policy.approval {
        Approval::Required => {
            reasons.push("a person has to agree (retrain_approval = required)".to_owned());
            decision(Verdict::NeedsApproval, reasons)
        }
        Approval::Automatic => {
            reasons.push("nobody has to agree (retrain_approval = automatic)".to_owned());
            decision(Verdict::Allowed, reasons)
        }
    }
}

/// A rule: what speaks for the action, or what holds it back.
type Rule = Result<String, String>;

fn rule(holds: bool, met: String, broken: String) -> Rule {
    if holds { Ok(met) } else { Err(broken) }
}

fn urgency(report: &Report) -> Rule {
    let urgency = report.urgency.as_str();
    rule(
        report.urgency == Urgency::P0,
        "urgency is P0".to_owned(),
        format!("urgency is {urgency}: retraining needs P0"),
    )
}

fn evidence(policy: &RetrainPolicy, report: &Report) -> Rule {
    let Some(drift) = &report.drift else {
        return Err("no comparison with the reference: retraining needs a drift event".to_owned());
    };
    if drift.state != State::Drift {
        return Err(format!("the model's drift state is {}", drift.state.as_str()));
    }
    let large = |subject: &&DriftSubject| {
        subject.state == State::Drift && subject.effect.is_some_and(|effect| effect >= policy.min_effect)
    };
    let subjects: Vec<&DriftSubject> = drift.subjects.iter().filter(large).collect();
    if subjects.is_empty() {
        let least = number(policy.min_effect);
        return Err(format!("no drifted subject has an effect of {least} or more"));
    }
    match subjects.iter().find_map(|subject| shown(subject)) {
        Some(reason) => Ok(reason),
        None => Err(format!(
            "no drifted subject has statistical evidence in the event ({})",
            names(drift, &subjects)
        )),
    }
}

/// What shows that a subject's drift is no accident.
///
/// Where successive values depend on each other, the sidecar calls it drift only after windows in a row have shown it.
fn shown(subject: &DriftSubject) -> Option<String> {
    let test = subject.test.as_ref()?;
    let effect = number(subject.strength());
    match (test.calibrated, test.sufficient) {
        (true, true) => Some(format!(
            "{} drifts with effect {effect}, evidence 10^{:.1}",
            subject.name, test.log10
        )),
        (true, false) => None,
        (false, _) => Some(format!(
            "{} drifts with effect {effect}, shown by several windows in a row",
            subject.name
        )),
    }
}

fn names(drift: &Drift, subjects: &[&DriftSubject]) -> String {
    let names: Vec<&str> = subjects
        .iter()
        .take(3)
        .map(|subject| subject.name.as_str())
        .collect();
    format!("{}: {}", drift.model, names.join(", "))
}

fn recommended(report: &Report) -> Rule {
    let Findings::Drift(findings) = &report.findings else {
        return Err("the report is not about drift".to_owned());
    };
    let helps = match findings.kind {
        DriftKind::DataDrift | DriftKind::ConceptDrift | DriftKind::ModelDecay => true,
        DriftKind::DataQuality | DriftKind::None => false,
    };
    if !helps {
        let kind = findings.kind.title();
        return Err(format!(
            "the report says {kind}: training on these rows would not help"
        ));
    }
    let recommends = findings
        .remediation
        .iter()
        .any(|remedy| remedy.action == RemedyAction::Retrain);
    rule(
        recommends,
        "the report recommends retraining".to_owned(),
        "the report does not recommend retraining".to_owned(),
    )
}

fn not_over(history: &History) -> Rule {
    rule(
        !history.is_over,
        "the drift goes on".to_owned(),
        "the drift is over".to_owned(),
    )
}

fn once(history: &History) -> Rule {
    rule(
        !history.retrain,
        "it is the first retraining of this incident".to_owned(),
        "this incident has had its retraining".to_owned(),
    )
}

fn cooled_down(policy: &RetrainPolicy, history: &History, now: i64) -> Rule {
    let cooldown = i64::try_from(policy.cooldown.as_millis()).unwrap_or(i64::MAX / 4);
    let time = readable(policy.cooldown);
    match history.last_retrain {
        Some(last) if now - last < cooldown => Err(format!(
            "the model's last retraining was asked for at {}; the next may be {time} later (retrain_cooldown)",
            rfc3339(last)
        )),
        _ => Ok(format!("none of this model within {time}")),
    }
}

fn readable(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        _ => format!("{time:?}"),
    }
}

fn below_cap(policy: &RetrainPolicy, history: &History) -> Rule {
    let (count, cap) = (history.retrains_of_the_day, policy.daily_cap);
    rule(
        count < cap,
        format!("{count} of {cap} retrainings of the last 24 hours used"),
        format!("{count} retrainings in the last 24 hours: the cap is {cap} (retrain_daily_cap)"),
    )
}
