//! From the sidecar's report to what is analysed and shown.

use plumbline_drift::report::{BinReport, DriftReport, State as Reported, SubjectReport};

use super::{Bin, Drift, DriftSubject, Role, State, Test, number};
use crate::signal::rfc3339;

impl From<Reported> for State {
    fn from(state: Reported) -> Self {
        match state.level() {
            0 => Self::Stable,
            1 => Self::Warning,
            _ => Self::Drift,
        }
    }
}

impl From<&DriftReport> for Drift {
    fn from(report: &DriftReport) -> Self {
        let subjects = report
            .subjects
            .iter()
            .map(|subject| {
                let contribution = report.ranking.iter().find(|entry| entry.subject == subject.name);
                convert(subject, contribution.map(|entry| (entry.share, entry.weight)))
            })
            .collect();
        let state = State::from(report.state);
        let mut drift = Self {
            model: report.model.clone(),
            version: report.version.clone(),
            segment: report.segment.clone(),
            state,
            episode: (report.episode > 0).then(|| report.episode.to_string()),
            started_at: (state > State::Stable).then(|| rfc3339(report.since_unix_ms)),
            at: Some(rfc3339(report.window.closed_at_unix_ms)),
            rows: report.window.rows,
            reference_rows: report.reference_rows,
            subjects,
        };
        drift.rank();
        drift
    }
}

fn convert(subject: &SubjectReport, contribution: Option<(f64, f64)>) -> DriftSubject {
    let reference: u64 = subject.bins.iter().map(|bin| bin.reference).sum();
    let window: u64 = subject.bins.iter().map(|bin| bin.window).sum();
    let share = |rows: u64, all: u64| if all == 0 { 0.0 } else { rows as f64 / all as f64 };
    let (missing, values): (Vec<&BinReport>, Vec<&BinReport>) = subject
        .bins
        .iter()
        .partition(|bin| bin.name == "missing" && bin.lower.is_none() && bin.upper.is_none());
    let missing_rows = |rows: fn(&BinReport) -> u64| missing.iter().map(|bin| rows(bin)).sum::<u64>();
    // Where the reference has no rows but the window has: a new category, or outside the range.
    let unseen: u64 = values
        .iter()
        .filter(|bin| bin.reference == 0)
        .map(|bin| bin.window)
        .sum();
    let bins = values
        .iter()
        .filter(|bin| bin.reference > 0 || bin.window > 0)
        .map(|bin| Bin {
            label: label(bin),
            reference: share(bin.reference, reference),
            now: share(bin.window, window),
        })
        .collect();
    let statistics = subject.statistics;
    DriftSubject {
        name: subject.name.clone(),
        role: if subject.role.is_some() {
            Role::Output
        } else {
            Role::Feature
        },
        state: subject.state.into(),
        psi: statistics.map(|s| s.psi),
        effect: statistics.map(|s| s.effect),
        ks: statistics.and_then(|s| s.ks),
        js: statistics.map(|s| s.js_distance),
        p_value: statistics.map(|s| s.p_value),
        contribution: contribution.map(|(share, _)| share),
        weight: contribution.map(|(_, weight)| weight),
        reference_mean: subject.reference_moments.map(|m| m.mean),
        mean: subject.window_moments.map(|m| m.mean),
        reference_missing: share(missing_rows(|bin| bin.reference), reference),
        missing: share(missing_rows(|bin| bin.window), window),
        unseen: share(unseen, window),
        test: Some(Test {
            log10: subject.evidence.log10,
            sufficient: subject.evidence.sufficient,
            calibrated: subject.evidence.calibrated,
        }),
        bins,
        evidence: String::new(),
    }
}

fn label(bin: &BinReport) -> String {
    match (bin.lower, bin.upper) {
        (Some(lower), Some(upper)) => format!("{} to {}", number(lower), number(upper)),
        (None, Some(upper)) => format!("below {}", number(upper)),
        (Some(lower), None) => format!("{} and above", number(lower)),
        (None, None) => bin.name.clone(),
    }
}
