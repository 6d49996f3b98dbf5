//! Why a model drifts: told from what its subjects look like and what labels say. Pure: a report comes in, a diagnosis goes out.

use serde::{Deserialize, Serialize};

use crate::performance::{Measure, PerformanceReport};
use crate::profile::Kind;
use crate::report::{BinReport, DriftReport, SubjectReport};
use crate::stats::binned::Pair;

/// Share of a subject's effect from which on it is put down to the quality of its data.
const QUALITY_SHARE: f64 = 0.5;
/// Labels below which nothing is said about harm.
const MIN_LABELS: u64 = 100;

/// What is behind a model's drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing drifts.
    #[default]
    None,
    /// A feed is broken: values are missing, out of range or never seen before.
    DataQuality,
    /// The inputs have another distribution.
    DataDrift,
    /// The same inputs mean something else: labels are wrong more often than inputs and scores explain.
    ConceptDrift,
    /// Something changed, and what is known does not tell why: the outputs alone, or inputs and error rate without an estimate to
    /// compare them by.
    Unknown,
}

/// Whether the model has become worse, as labels say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// There are too few labels to say.
    #[default]
    Unknown,
    /// It has not.
    None,
    /// It has, by more than is tolerated.
    Worse,
}

/// What can be wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is a number below or above all of the reference.
    OutOfRange,
    /// It is a category that the reference never saw.
    Unseen,
}

/// A fault of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultShare {
    /// The subject.
    pub subject: String,
    /// The fault.
    pub fault: Fault,
    /// Share of the reference's rows that have it.
    pub reference: f64,
    /// Share of the window's rows.
    pub window: f64,
}

/// The most likely cause of a model's drift, and what speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The cause to look into first.
    pub cause: Cause,
    /// Others that are at work too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Cause>,
    /// Whether the model has become worse.
    pub harm: Harm,
    /// Subjects that changed, the one that contributes most first.
    pub subjects: Vec<String>,
    /// What is wrong with their values, for those whose change is one of quality; what rose most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultShare>,
    /// Accuracy as expected from the scores; none without an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_accuracy: Option<Measure>,
    /// Accuracy as labels have it; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_accuracy: Option<Measure>,
}

/// Tells causes apart.
///
/// A changed input whose effect comes for half and more from [faults](quality_share) is a broken feed; any other is data drift. The
/// error rate is worse when the risk's test says so. Then a broken feed explains it; a data drift explains it if the estimate from the
/// scores, which follows the inputs, agrees with the labels; what neither explains is concept drift.
pub fn diagnose(report: &DriftReport, performance: Option<&PerformanceReport>) -> Diagnosis {
    let (outputs, inputs): (Vec<&SubjectReport>, Vec<&SubjectReport>) =
        ranked(report).partition(|subject| subject.role.is_some());
    let (broken, shifted): (Vec<&SubjectReport>, Vec<&SubjectReport>) =
        inputs.iter().copied().partition(|subject| is_broken(subject));
    let newest = |views: Option<&crate::performance::PerformanceViews>| views.map(|v| v.newest().accuracy);
    let expected_accuracy = newest(performance.and_then(|p| p.estimated.as_ref()));
    let observed_accuracy = newest(performance.and_then(|p| p.labels.as_ref()));
    let harm = match performance.map(|p| p.risk) {
        Some(risk) if risk.alarm => Harm::Worse,
        Some(risk) if risk.rows >= MIN_LABELS && risk.threshold.is_some() => Harm::None,
        _ => Harm::Unknown,
    };
    let agree = expected_accuracy
        .zip(observed_accuracy)
        .map(|(expected, observed)| expected.overlaps(&observed));
    let mut causes = match (harm, broken.is_empty(), shifted.is_empty(), agree) {
        (_, false, true, _) => vec![Cause::DataQuality],
        (_, false, false, _) => vec![Cause::DataQuality, Cause::DataDrift],
        (Harm::Worse, true, true, _) => vec![Cause::ConceptDrift],
        (Harm::Worse, true, false, Some(false)) => vec![Cause::ConceptDrift, Cause::DataDrift],
        (Harm::Worse, true, false, None) => vec![Cause::Unknown, Cause::DataDrift],
        (_, true, false, _) => vec![Cause::DataDrift],
        (_, true, true, _) if !outputs.is_empty() => vec![Cause::Unknown],
        (_, true, true, _) => vec![Cause::None],
    };
    let also = causes.split_off(1);
    let mut faults: Vec<FaultShare> = broken.iter().flat_map(|subject| faults(subject)).collect();
    faults.sort_by(|a, b| (b.window - b.reference).total_cmp(&(a.window - a.reference)));
    Diagnosis {
        cause: causes.first().copied().unwrap_or_default(),
        also,
        harm,
        subjects: inputs.iter().chain(&outputs).map(|s| s.name.clone()).collect(),
        faults,
        expected_accuracy,
        observed_accuracy,
    }
}

/// Inputs whose change is one of quality.
pub(crate) fn broken_inputs(report: &DriftReport) -> impl Iterator<Item = &SubjectReport> {
    ranked(report).filter(|subject| subject.role.is_none() && is_broken(subject))
}

/// The share of a subject's change that faults alone make, in `[0, 1]`: the PSI of the table {in order, missing, out of range, unseen},
/// in that of all bins. The rest is the shape of the values that are in order.
///
/// Joining bins never adds divergence (data processing inequality), so that the parts do not exceed the whole but for the half rows that
/// each bin is given. 0 where nothing changed.
pub fn quality_share(subject: &SubjectReport) -> f64 {
    let side = |of: fn(&BinReport) -> u64| -> (Vec<u64>, [u64; 4]) {
        let mut joined = [0; 4];
        for bin in &subject.bins {
            let group = fault_of(subject, bin).map_or(0, |fault| 1 + fault as usize);
            joined[group] += of(bin);
        }
        (subject.bins.iter().map(of).collect(), joined)
    };
    let (reference, joined_reference) = side(|bin| bin.reference);
    let (window, joined_window) = side(|bin| bin.window);
    let psi = |r: &[u64], w: &[u64]| Pair::new(r, w).map_or(0.0, |pair| pair.psi());
    let whole = psi(&reference, &window);
    if whole <= 0.0 {
        return 0.0;
    }
    (psi(&joined_reference, &joined_window) / whole).min(1.0)
}

/// Changed subjects in the order of the report's ranking, then those without an effect in it.
fn ranked(report: &DriftReport) -> impl Iterator<Item = &SubjectReport> {
    let place = |subject: &SubjectReport| {
        let found = report.ranking.iter().position(|c| c.subject == subject.name);
        found.unwrap_or(usize::MAX)
    };
    let mut changed: Vec<&SubjectReport> = report
        .subjects
        .iter()
        .filter(|s| has_changed(s, report))
        .collect();
    changed.sort_by_key(|subject| place(subject));
    changed.into_iter()
}

/// In an episode, or with evidence and effect enough for one.
fn has_changed(subject: &SubjectReport, report: &DriftReport) -> bool {
    let effect = subject
        .statistics
        .filter(|_| !subject.insufficient)
        .map_or(0.0, |s| s.effect);
    subject.state.level() > 0 || (subject.evidence.sufficient && effect >= report.gates.warning_effect)
}

fn is_broken(subject: &SubjectReport) -> bool {
    // Fewer faults than in the reference are no broken feed.
    quality_share(subject) >= QUALITY_SHARE && !faults(subject).is_empty()
}

/// Faults that are more frequent than in the reference.
fn faults(subject: &SubjectReport) -> Vec<FaultShare> {
    let total = |of: fn(&BinReport) -> u64| subject.bins.iter().map(of).sum::<u64>().max(1) as f64;
    let (reference_rows, window_rows) = (total(|bin| bin.reference), total(|bin| bin.window));
    [Fault::Missing, Fault::OutOfRange, Fault::Unseen]
        .into_iter()
        .map(|fault| {
            let with_it = || {
                subject
                    .bins
                    .iter()
                    .filter(move |bin| fault_of(subject, bin) == Some(fault))
            };
            FaultShare {
                subject: subject.name.clone(),
                fault,
                reference: with_it().map(|bin| bin.reference).sum::<u64>() as f64 / reference_rows,
                window: with_it().map(|bin| bin.window).sum::<u64>() as f64 / window_rows,
            }
        })
        .filter(|share| share.window > share.reference)
        .collect()
}

/// The fault that the rows of a bin have, by the names of [`bin_names`](crate::profile::Subject::bin_names).
pub(crate) fn fault_of(subject: &SubjectReport, bin: &BinReport) -> Option<Fault> {
    let is_number = matches!(subject.kind, Kind::Numeric | Kind::TextLength);
    match bin.name.as_str() {
        "missing" => Some(Fault::Missing),
        "below" | "above" if is_number => Some(Fault::OutOfRange),
        "unseen" if is_number => Some(Fault::Unseen),
        // Rare categories of the reference share the bin: then what is in it cannot be told apart.
        "other" if subject.kind == Kind::Categorical && bin.reference == 0 => Some(Fault::Unseen),
        _ => None,
    }
}
