//! A postmortem of one incident, from what the store and Prometheus have: timeline, impact, causes, what went well, actions.
//!
//! Code writes it; every line is something that was recorded. Whoever holds the review adds what the records cannot know.

mod impact;
pub(crate) mod worded;

use std::fmt::Write as _;

use serde::Serialize;

use crate::action::title_of;
use crate::evidence::Source;
use crate::follow::InterventionKind;
use crate::metrics::Label as _;
use crate::prometheus::Prometheus;
use crate::report::markdown::inline;
use crate::report::{Findings, Report};
use crate::signal::rfc3339;
use crate::store::{Done, IncidentRow, Past, SignalRow, Store, StoreError};

pub(crate) use impact::{Impact, measure};

/// Signals and effects that are read.
const MAX_ROWS: u32 = 500;
/// Entries of a timeline.
const MAX_ENTRIES: usize = 60;
/// A signal that was committed this long after it began was found late, in milliseconds.
const LATE: i64 = 10 * 60_000;
/// A report this long after its signal was slow, in milliseconds.
const SLOW: i64 = 5 * 60_000;

/// What is known of an incident.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    pub(crate) incident: IncidentRow,
    pub(crate) signals: Vec<SignalRow>,
    /// Every revision, oldest first.
    pub(crate) reports: Vec<Report>,
    /// What was done outside: when, in milliseconds since 1970, and what.
    pub(crate) effects: Vec<(i64, String)>,
    pub(crate) interventions: Vec<Done>,
    /// Earlier incidents of the kind.
    pub(crate) past: Vec<Past>,
    pub(crate) impact: Impact,
}

/// A postmortem; DESIGN's `postmortem` schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Postmortem {
    pub(crate) incident: String,
    pub(crate) title: String,
    /// Whether it is over; before that the postmortem is a draft.
    pub(crate) is_over: bool,
    pub(crate) timeline: Vec<Entry>,
    pub(crate) impact: Vec<String>,
    pub(crate) causes: Vec<String>,
    pub(crate) went_well: Vec<String>,
    pub(crate) went_badly: Vec<String>,
    pub(crate) actions: Vec<String>,
    /// The same in other words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worded: Option<Worded>,
    /// Why there are no other words, where there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_worded: Option<String>,
}

/// What a language model made of the records; each lesson and action with words that stand in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Worded {
    pub(crate) model: String,
    /// None when it had a number that no record has.
    pub(crate) summary: Option<String>,
    pub(crate) lessons: Vec<String>,
    pub(crate) actions: Vec<String>,
    /// Items that no record carries.
    pub(crate) dropped: usize,
}

/// One moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// RFC 3339, UTC.
    pub(crate) at: String,
    pub(crate) what: String,
}

/// Everything that is known of the incident `id`. None when there is no such incident.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn gather(
    store: &Store,
    prometheus: Option<&Prometheus>,
    id: &str,
) -> Result<Option<Material>, StoreError> {
    let Some(incident) = store.incident(id).await? else {
        return Ok(None);
    };
    let reports = store.reports(id).await?;
    let effects = store.effects(Some(id.to_owned()), MAX_ROWS).await?;
    let done = effects.iter().filter(|effect| effect.state == "done");
    let over = incident.resolved_at.as_deref().and_then(millis);
    let impact = measure(
        prometheus,
        incident.model.as_deref(),
        incident.started_at_ms,
        over,
    )
    .await;
    Ok(Some(Material {
        signals: store.signals(id, MAX_ROWS).await?,
        reports: reports
            .iter()
            .filter_map(|json| serde_json::from_str(json).ok())
            .collect(),
        effects: done
            .filter_map(|effect| Some((millis(&effect.updated_at)?, title_of(&effect.action).to_owned())))
            .collect(),
        interventions: store.interventions(id).await?,
        past: store.past(id).await?,
        impact,
        incident,
    }))
}

fn millis(at: &str) -> Option<i64> {
    Some(at.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// Writes it.
pub(crate) fn write(material: &Material) -> Postmortem {
    let newest = material.reports.last();
    let (went_well, went_badly) = judged(material);
    Postmortem {
        incident: material.incident.id.clone(),
        title: material.incident.title.clone(),
        is_over: material.incident.resolved_at.is_some(),
        timeline: timeline(material),
        impact: material.impact.lines(),
        causes: newest.map(causes).unwrap_or_default(),
        went_well,
        went_badly,
        actions: actions(material),
        worded: None,
        not_worded: None,
    }
}

fn timeline(material: &Material) -> Vec<Entry> {
    let mut moments: Vec<(i64, String)> = Vec::new();
    let mut add = |at: &str, what: String| {
        if let Some(at) = millis(at) {
            moments.push((at, what));
        }
    };
    for signal in &material.signals {
        add(&signal.starts_at, format!("began: {}", signal.title));
        if let Some(at) = &signal.ends_at {
            add(at, format!("ended: {}", signal.title));
        }
    }
    add(&material.incident.received_at, "the worker was told".to_owned());
    for report in &material.reports {
        add(
            &report.created_at,
            format!(
                "report, revision {}, {}, by {}",
                report.revision,
                report.urgency.as_str(),
                report
                    .analysis
                    .model
                    .as_deref()
                    .unwrap_or(&report.analysis.provider)
            ),
        );
    }
    if let Some(at) = &material.incident.resolved_at {
        add(at, "over: no signal fires any more".to_owned());
    }
    moments.extend(material.effects.iter().cloned());
    for done in material
        .interventions
        .iter()
        .filter(|done| done.kind != InterventionKind::None.label())
    {
        moments.push((done.at, intervention(done)));
    }
    // Stable: of one second, in the order in which they are here.
    moments.sort_by_key(|(at, _)| *at);
    moments.dedup();
    let left_out = moments.len().saturating_sub(MAX_ENTRIES);
    // The begin and the end tell more than the middle.
    if left_out > 0 {
        let middle = MAX_ENTRIES / 2;
        let at = moments[middle].0;
        moments.splice(
            middle..=middle + left_out,
            [(at, format!("{} entries left out", left_out + 1))],
        );
    }
    moments
        .into_iter()
        .map(|(at, what)| Entry {
            at: rfc3339(at),
            what,
        })
        .collect()
}

fn intervention(done: &Done) -> String {
    let what = InterventionKind::title_of(&done.kind);
    let mut text = format!("{what}, by {}", done.actor);
    if !done.note.is_empty() {
        let _ = write!(text, ": {}", done.note);
    }
    text
}

fn causes(report: &Report) -> Vec<String> {
    let said = |hypothesis: &str, confidence: f64| {
        format!(
            "{hypothesis} (confidence {})",
            crate::drift::whole_percent(confidence)
        )
    };
    match &report.findings {
        Findings::Incident(found) => found
            .root_causes
            .iter()
            .map(|cause| said(&cause.hypothesis, cause.confidence))
            .collect(),
        Findings::Drift(found) => found
            .causes
            .iter()
            .map(|cause| said(&cause.hypothesis, cause.confidence))
            .collect(),
        Findings::Triage(found) => found
            .findings
            .iter()
            .map(|finding| {
                said(
                    &format!("{}: {}", finding.title, finding.explanation),
                    finding.confidence,
                )
            })
            .collect(),
    }
}

/// What went well, and what did not.
fn judged(material: &Material) -> (Vec<String>, Vec<String>) {
    let (mut well, mut badly) = (Vec::new(), Vec::new());
    let incident = &material.incident;
    if let (Some(began), Some(told)) = (millis(&incident.started_at), millis(&incident.received_at)) {
        let after = (told - began).max(0);
        let line = format!("The worker was told {} after it began.", span(after));
        if after > LATE { &mut badly } else { &mut well }.push(line);
        if let Some(report) = material
            .reports
            .first()
            .and_then(|report| millis(&report.created_at))
        {
            let after = (report - told).max(0);
            let line = format!("The first report was there {} later.", span(after));
            if after > SLOW { &mut badly } else { &mut well }.push(line);
        }
    }
    if let Some(report) = material.reports.last() {
        let missing: Vec<&str> = report
            .missing
            .iter()
            .map(|missing| source(missing.source))
            .collect();
        if missing.is_empty() {
            well.push("Every source of evidence answered.".to_owned());
        } else {
            badly.push(format!("Evidence was missing: {}.", missing.join(", ")));
        }
        if let Some(reason) = &report.analysis.fallback {
            badly.push(format!("The language model's answer was not used: {reason}."));
        }
    }
    for done in &material.interventions {
        match done.outcome.as_str() {
            "recovered" if done.kind != InterventionKind::None.label() => {
                well.push(format!("It recovered after: {}.", intervention(done)));
            }
            "persisted" => badly.push(format!("This did not help: {}.", intervention(done))),
            _ => {}
        }
    }
    if incident.resolved_at.is_some() && material.interventions.iter().all(|done| done.kind == "none") {
        badly.push("It went by itself, as far as is known: what ended it was not recorded.".to_owned());
    }
    (well, badly)
}

fn actions(material: &Material) -> Vec<String> {
    let mut actions = Vec::new();
    if let Some(report) = material.reports.last() {
        match &report.findings {
            Findings::Incident(found) => actions.extend(
                found
                    .root_causes
                    .iter()
                    .map(|cause| format!("{} (if: {})", cause.remediation.action, cause.hypothesis)),
            ),
            Findings::Drift(found) => {
                actions.extend(
                    found
                        .remediation
                        .iter()
                        .map(|remedy| format!("{}: {}", remedy.action.title(), remedy.rationale)),
                );
                actions.extend(found.action_items.iter().cloned());
            }
            Findings::Triage(found) => {
                actions.extend(found.findings.iter().map(|finding| finding.fix.action.clone()));
            }
        }
        for missing in &report.missing {
            actions.push(format!(
                "Give the worker access to {}: {}.",
                source(missing.source),
                missing.reason
            ));
        }
    }
    let again = material.past.iter().filter(|past| past.same_key).count();
    if again > 0 {
        actions.push(format!(
            "This has happened {again} times before ({}): remove the cause, not only the effect.",
            material
                .past
                .iter()
                .filter(|past| past.same_key)
                .take(5)
                .map(|past| past.id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let done = |done: &Done| done.kind == InterventionKind::None.label();
    if material.interventions.iter().all(done) {
        actions.push(
            "Record what was done (POST /api/v1/incidents/{id}/interventions): the next report will name it."
                .to_owned(),
        );
    }
    actions
}

/// A path would be taken for a command where this is posted.
fn source(source: Source) -> &'static str {
    match source {
        Source::DriftState => "the sidecar",
        other => other.title(),
    }
}

/// `3 min`, `2.5 h`.
pub(crate) fn span(millis: i64) -> String {
    match millis as f64 / 1_000.0 {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5_400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3_600.0),
    }
}

impl Postmortem {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut page = format!("# Postmortem: {}\n\n", inline(&self.title));
        let state = if self.is_over { "over" } else { "not over: a draft" };
        let _ = writeln!(
            page,
            "Incident {} · {state} · written by code from what was recorded\n",
            self.incident
        );
        let _ = writeln!(page, "## Timeline\n\n| when | what |\n| --- | --- |");
        for entry in &self.timeline {
            let _ = writeln!(
                page,
                "| {} | {} |",
                entry.at,
                inline(&entry.what).replace('|', "\\|")
            );
        }
        for (title, lines) in [
            ("Impact", &self.impact),
            ("Causes, as reported", &self.causes),
            ("What went well", &self.went_well),
            ("What did not", &self.went_badly),
            ("Actions", &self.actions),
        ] {
            let _ = writeln!(page, "\n## {title}\n");
            if lines.is_empty() {
                let _ = writeln!(page, "Nothing was recorded.");
            }
            for line in lines {
                let _ = writeln!(page, "- {}", inline(line));
            }
        }
        if let Some(worded) = &self.worded {
            worded.add(&mut page);
        }
        if let Some(reason) = &self.not_worded {
            let _ = writeln!(page, "\nNo language model has worded this: {}.", inline(reason));
        }
        page
    }
}

impl Worded {
    fn add(&self, page: &mut String) {
        let _ = writeln!(page, "\n## In the words of {}\n", inline(&self.model));
        if let Some(summary) = &self.summary {
            let _ = writeln!(page, "{}\n", inline(summary));
        }
        for (title, lines) in [("To learn", &self.lessons), ("To do", &self.actions)] {
            for line in lines {
                let _ = writeln!(page, "- {title}: {}", inline(line));
            }
        }
        if self.dropped > 0 {
            let _ = writeln!(
                page,
                "\n{} items were dropped: no record carries them.",
                self.dropped
            );
        }
    }
}

#[cfg(test)]
mod tests;
