//! Failed pipelines, by code: what the tools say, what it means, and what to do about it.

mod advice;

use std::fmt::Write as _;

use super::{Case, worst_line};
use crate::evidence::Source;
use crate::report::{
    Citation, FailureType, FalsePositive, Fix, TriageFinding, TriageFindings, Urgency, Verdict,
};
use crate::text::{one_line, prefix};
use crate::triage::{Detection, FailedJob, Pipeline};

/// Findings of a report.
const MAX_FINDINGS: usize = 8;
/// Characters of a title.
const MAX_TITLE: usize = 160;
/// Bytes of a quote.
const MAX_QUOTE: usize = 240;

pub(super) fn analyse(case: &Case) -> TriageFindings {
    let empty = Pipeline::default();
    let pipeline = case.context.pipeline.as_ref().unwrap_or(&empty);
    let mut findings: Vec<TriageFinding> = Vec::new();
    let deciding = pipeline.deciding();
    // The job that decides first, then the others.
    let others = pipeline
        .jobs
        .iter()
        .filter(|job| deciding.is_none_or(|deciding| !std::ptr::eq(*job, deciding)));
    for job in deciding.into_iter().chain(others) {
        let left = MAX_FINDINGS.saturating_sub(findings.len());
        findings.extend(of_job(case, pipeline, job).into_iter().take(left));
    }
    if findings.is_empty() {
        findings.push(unread(case));
    }
    TriageFindings {
        summary: summary(case, pipeline, findings.len()),
        failure_type: pipeline.kind(),
        confidence: deciding.map_or(0.2, |job| job.classified.confidence),
        findings,
        priority: case.urgency,
    }
}

fn summary(case: &Case, pipeline: &Pipeline, findings: usize) -> String {
    let Some(job) = pipeline.deciding() else {
        return format!(
            "{}. The run could not be read.",
            one_line(&case.subject.title, 160)
        );
    };
    let step = job
        .step
        .as_ref()
        .map_or_else(String::new, |step| format!(" in step \"{}\"", one_line(step, 80)));
    let more = match pipeline.jobs.len() {
        0 | 1 => String::new(),
        jobs => format!(" {} more jobs failed.", jobs - 1),
    };
    let kind = match job.classified.kind {
        FailureType::Unknown => "What kind of failure it is cannot be told from the log.".to_owned(),
        kind => format!("It is about {}: {}", kind.title(), advice::turn(kind)),
    };
    let findings = if findings == 1 {
        "1 finding".to_owned()
    } else {
        format!("{findings} findings")
    };
    format!(
        "Job {} failed{step}.{more} {kind} {findings}, from what the tools say in the log.",
        one_line(&job.name, 80)
    )
}

/// The findings of a job: what is detected of its kind, or the line that stands out most.
fn of_job(case: &Case, pipeline: &Pipeline, job: &FailedJob) -> Vec<TriageFinding> {
    let kind = job.classified.kind;
    let of_kind: Vec<&Detection> = job
        .detections
        .iter()
        .filter(|detection| detection.kind == kind && detection.weight >= 3)
        .collect();
    // A tool's count says nothing besides what it counts.
    let named: Vec<&Detection> = of_kind
        .iter()
        .copied()
        .filter(|detection| detection.subject.is_some() || detection.file.is_some())
        .collect();
    let chosen = merged(if named.is_empty() { of_kind } else { named });
    let mut findings: Vec<TriageFinding> = chosen
        .iter()
        .filter_map(|detection| finding(case, pipeline, job, detection))
        .collect();
    findings.dedup_by(|a, b| a.title == b.title && a.fix.file == b.fix.file && a.fix.line == b.fix.line);
    if findings.is_empty() {
        findings.extend(worst(case, job));
    }
    findings
}

/// Tools tell the same failure in several lines: where, what, and in a summary. What a weaker line knows of a file goes
/// to the stronger one of that file.
fn merged(detections: Vec<&Detection>) -> Vec<Detection> {
    let mut kept: Vec<Detection> = Vec::new();
    for detection in detections {
        let stronger = kept.iter_mut().find(|kept| {
            kept.file.is_some() && kept.file == detection.file && kept.weight >= detection.weight + 2
        });
        match stronger {
            Some(stronger) => {
                stronger.line = stronger.line.or(detection.line);
                stronger.message = stronger.message.take().or_else(|| detection.message.clone());
            }
            None => kept.push(detection.clone()),
        }
    }
    kept
}

fn finding(
    case: &Case,
    pipeline: &Pipeline,
    job: &FailedJob,
    detection: &Detection,
) -> Option<TriageFinding> {
    let fact = detection.fact.clone()?;
    let quote = prefix(&detection.quote, MAX_QUOTE).trim().to_owned();
    let subject = detection.subject.as_deref().or(detection.message.as_deref());
    let what = subject.or(detection.file.as_deref()).unwrap_or(&quote);
    let mut explanation = match &detection.message {
        Some(message) => format!("{} says: {message}", detection.tool),
        None => format!("{} says that it failed", detection.tool),
    };
    if let Some(severity) = &detection.severity {
        let _ = write!(explanation, " (severity {severity})");
    }
    explanation.push_str(". ");
    explanation.push_str(advice::meaning(detection));
    let is_changed = detection.file.as_deref().and_then(|file| changed(case, file));
    Some(TriageFinding {
        title: one_line(&format!("{}: {what}", detection.tool), MAX_TITLE),
        explanation,
        risk: advice::risk(detection, pipeline.on_default_branch),
        fix: Fix {
            action: advice::fix(detection),
            file: detection
                .file
                .clone()
                .filter(|file| !file.contains(char::is_whitespace)),
            line: detection.file.as_ref().and(detection.line),
        },
        false_positive: advice::false_positive(detection, is_changed, unchanged(case)),
        priority: detection.urgency(),
        confidence: job.classified.confidence * f64::from(detection.weight.clamp(5, 9)) / 9.0,
        evidence: vec![Citation {
            id: fact,
            quote: Some(quote),
        }],
    })
}

/// Whether the file is among those that changed since the last green run; `None` when that is not known.
fn changed(case: &Case, file: &str) -> Option<bool> {
    let changes = case
        .context
        .evidence
        .iter()
        .find(|fact| fact.source == Source::Changes)?;
    Some(changes.content.lines().any(|line| line.contains(file)))
}

/// Whether the same commit was green before.
fn unchanged(case: &Case) -> bool {
    case.context
        .evidence
        .iter()
        .any(|fact| fact.source == Source::Changes && fact.title.starts_with("no change"))
}

/// What the log says loudest, when no tool is known.
fn worst(case: &Case, job: &FailedJob) -> Option<TriageFinding> {
    let log = job.log.as_ref()?;
    let (fact, quote) = match worst_line(case, |source| source == Source::JobLog) {
        Some((fact, text)) if fact.id == *log => {
            (fact.id.clone(), Some(prefix(text, MAX_QUOTE).trim().to_owned()))
        }
        _ => (log.clone(), None),
    };
    let said = quote.as_deref().map_or_else(
        || "nothing stands out in the log".to_owned(),
        |quote| one_line(quote, 200),
    );
    Some(TriageFinding {
        title: one_line(&format!("Job {} failed", job.name), MAX_TITLE),
        explanation: format!("What stands out in the log: {said}"),
        risk: "Not known: no tool of the log is known here.".to_owned(),
        fix: Fix {
            action: "read the lines around the quoted one; what the step runs decides what they mean"
                .to_owned(),
            file: None,
            line: None,
        },
        false_positive: FalsePositive {
            verdict: Verdict::Unclear,
            reason: "the log has no line of a known tool".to_owned(),
        },
        priority: Urgency::P2,
        confidence: 0.3,
        evidence: vec![Citation { id: fact, quote }],
    })
}

/// When there is neither log nor jobs.
fn unread(case: &Case) -> TriageFinding {
    let evidence = case.context.evidence.first().map(|fact| Citation {
        id: fact.id.clone(),
        quote: None,
    });
    TriageFinding {
        title: "The run could not be read".to_owned(),
        explanation: "Neither its jobs nor their logs could be had; what could not be had says why."
            .to_owned(),
        risk: "Not known.".to_owned(),
        fix: Fix {
            action: "open the run at GitHub, and check the worker's token and its permission to read actions"
                .to_owned(),
            file: None,
            line: None,
        },
        false_positive: FalsePositive {
            verdict: Verdict::Unclear,
            reason: "there is nothing to judge by".to_owned(),
        },
        priority: Urgency::P2,
        confidence: 0.2,
        evidence: evidence.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;
