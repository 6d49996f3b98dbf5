//! What an alarm rests on, small enough for a message or a prompt: which subjects changed, where, and which moved together.

use serde::{Deserialize, Serialize};

use super::{DriftReport, State, SubjectReport};
use crate::cause::{Diagnosis, diagnose, quality_share};
use crate::performance::PerformanceReport;
use crate::profile::{Kind, Role};

/// Most bytes of an [`EvidencePack`] as JSON.
pub const MAX_EVIDENCE_BYTES: usize = 8 * 1024;
/// Subjects and bins of each to try, the fullest first, until the pack is small enough.
const DETAIL: [(usize, usize); 7] = [(8, 20), (6, 18), (5, 14), (4, 12), (3, 10), (2, 8), (1, 6)];
/// Bins told apart as the ones that changed most.
const TOP_BINS: usize = 3;
/// Longest name that is told whole, in bytes.
const MAX_NAME: usize = 48;
/// Names in the lists of a diagnosis.
const MAX_LISTED: usize = 8;
/// Windows that movements are compared over.
const WINDOWS: usize = 16;
/// Windows below which two movements are not compared.
const MIN_WINDOWS: usize = 6;
/// Correlation from which on two subjects move together.
const MIN_CORRELATION: f64 = 0.8;
/// Most subjects whose movements are kept: 16 KiB.
const MAX_SUBJECTS: usize = 256;
/// Pairs that are told.
const MAX_PAIRS: usize = 5;

/// Everything that an alarm rests on, at most [`MAX_EVIDENCE_BYTES`] as JSON. Deterministic, and without a single value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidencePack {
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The worst state of any subject.
    pub state: State,
    /// Number of the episode.
    pub episode: u64,
    /// When the state was entered, milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Rows of the window that the figures are of.
    pub window_rows: u64,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// The likely cause.
    pub diagnosis: Diagnosis,
    /// Subjects with an effect, the largest `effect · importance` first.
    pub subjects: Vec<SubjectEvidence>,
    /// Subjects with an effect that are left out for room.
    pub left_out: usize,
    /// Subjects that moved together over the last windows, the closest first.
    pub moving_together: Vec<Comovement>,
}

/// How one subject changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectEvidence {
    /// Its name.
    pub name: String,
    /// How its values are binned.
    pub kind: Kind,
    /// What it is, for an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Its state.
    pub state: State,
    /// Its share of `effect · importance` over all subjects, in `[0, 1]`.
    pub share: f64,
    /// Debiased effect on the scale of the PSI.
    pub effect: f64,
    /// Importance relative to the mean feature.
    pub weight: f64,
    /// Decimal logarithm of the sequential test's evidence.
    pub log10_evidence: f64,
    /// The part of the effect that missing, unseen and out-of-range values alone make, in `[0, 1]`; the rest is a change of shape.
    pub quality_share: f64,
    /// Mean and standard deviation of the reference; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<[f64; 2]>,
    /// The same of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<[f64; 2]>,
    /// Names of the bins that contribute most to the effect, with their share of it.
    pub top_bins: Vec<(String, f64)>,
    /// Both distributions, ready to plot.
    pub histogram: Histogram,
}

/// Two distributions over the same bins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Names of the bins in their order; bins that changed little share one, called `…`, where there are too many.
    pub bins: Vec<String>,
    /// Lower edges of the bins of a number, null for open ends and for bins that are no interval; empty for categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<Option<f64>>,
    /// Share of the reference in each bin.
    pub reference: Vec<f64>,
    /// Share of the window in each bin.
    pub window: Vec<f64>,
}

/// Two subjects that moved together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comovement {
    /// Their names.
    pub subjects: [String; 2],
    /// Correlation of their movements from window to window, in `[−1, 1]`.
    pub correlation: f64,
}

impl EvidencePack {
    /// The pack of a report; `performance` where it is known, `movements` of the windows before.
    pub fn new(report: &DriftReport, performance: Option<&PerformanceReport>, movements: &Movements) -> Self {
        let mut diagnosis = diagnose(report, performance);
        diagnosis.subjects.truncate(MAX_LISTED);
        diagnosis.faults.truncate(MAX_LISTED);
        for name in &mut diagnosis.subjects {
            *name = short(name);
        }
        for fault in &mut diagnosis.faults {
            fault.subject = short(&fault.subject);
            (fault.reference, fault.window) = (rounded(fault.reference), rounded(fault.window));
        }
        let mut pack = Self {
            model: short(&report.model),
            version: short(&report.version),
            state: report.state,
            episode: report.episode,
            since_unix_ms: report.since_unix_ms,
            window_rows: report.window.rows,
            reference_rows: report.reference_rows,
            diagnosis,
            subjects: Vec::new(),
            left_out: 0,
            moving_together: movements.together(),
        };
        for (subjects, bins) in DETAIL {
            pack.detail(report, subjects, bins);
            if pack.to_json().len() <= MAX_EVIDENCE_BYTES {
                break;
            }
        }
        pack
    }

    /// The pack as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every map key is a string")
    }

    fn detail(&mut self, report: &DriftReport, subjects: usize, bins: usize) {
        self.subjects = report
            .ranking
            .iter()
            .filter_map(|c| {
                let subject = report.subjects.iter().find(|s| s.name == c.subject)?;
                Some(SubjectEvidence {
                    name: short(&subject.name),
                    kind: subject.kind,
                    role: subject.role,
                    state: subject.state,
                    share: rounded(c.share),
                    effect: rounded(c.effect),
                    weight: rounded(c.weight),
                    log10_evidence: rounded(subject.evidence.log10),
                    quality_share: rounded(quality_share(subject)),
                    reference: subject.reference_moments.map(|m| [m.mean, m.sd].map(rounded)),
                    window: subject.window_moments.map(|m| [m.mean, m.sd].map(rounded)),
                    top_bins: top_bins(subject),
                    histogram: Histogram::new(subject, bins),
                })
            })
            .take(subjects)
            .collect();
        self.left_out = report.ranking.len() - self.subjects.len();
    }
}

impl Histogram {
    /// At most `most` bins: where there are more, those that changed least share one.
    fn new(subject: &SubjectReport, most: usize) -> Self {
        let bins = &subject.bins;
        let mut kept: Vec<usize> = (0..bins.len()).collect();
        if bins.len() > most {
            kept.sort_by(|a, b| bins[*b].psi.total_cmp(&bins[*a].psi).then(a.cmp(b)));
            kept.truncate(most.saturating_sub(1));
            kept.sort_unstable();
        }
        let total = |of: fn(&super::BinReport) -> u64| bins.iter().map(of).sum::<u64>().max(1) as f64;
        let (n, m) = (total(|bin| bin.reference), total(|bin| bin.window));
        let mut histogram = Self::default();
        let is_number = bins.iter().any(|bin| bin.lower.is_some() || bin.upper.is_some());
        for bin in kept.iter().filter_map(|i| bins.get(*i)) {
            histogram.bins.push(short(&bin.name));
            histogram.reference.push(rounded(bin.reference as f64 / n));
            histogram.window.push(rounded(bin.window as f64 / m));
            if is_number {
                histogram.lower.push(bin.lower.map(rounded));
            }
        }
        if kept.len() < bins.len() {
            let rest = |of: fn(&super::BinReport) -> u64| {
                let rest = bins.iter().enumerate().filter(|(i, _)| !kept.contains(i));
                rest.map(|(_, bin)| of(bin)).sum::<u64>() as f64
            };
            histogram.bins.push("…".to_owned());
            histogram.reference.push(rounded(rest(|bin| bin.reference) / n));
            histogram.window.push(rounded(rest(|bin| bin.window) / m));
            if is_number {
                histogram.lower.push(None);
            }
        }
        histogram
    }
}

fn top_bins(subject: &SubjectReport) -> Vec<(String, f64)> {
    let total: f64 = subject.bins.iter().map(|bin| bin.psi).sum();
    let mut bins: Vec<_> = subject.bins.iter().filter(|bin| bin.psi > 0.0).collect();
    bins.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    bins.into_iter()
        .take(TOP_BINS)
        .map(|bin| (short(&bin.name), rounded(bin.psi / total)))
        .collect()
}

/// A number with four digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// A name of at most [`MAX_NAME`] bytes.
fn short(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let mut end = MAX_NAME;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &name[..end])
}

/// How the subjects moved over the last windows: the shift of the mean in standard deviations, and the effect where there is no
/// mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Movements {
    subjects: Vec<String>,
    /// One list of movements per window, the oldest first.
    windows: Vec<Vec<f32>>,
}

impl Movements {
    /// Takes a closed window; an open one is ignored. Other subjects than before start a new history.
    pub fn observe(&mut self, report: &DriftReport) {
        if !report.window.closed {
            return;
        }
        let subjects = || report.subjects.iter().take(MAX_SUBJECTS);
        if !subjects().map(|s| &s.name).eq(&self.subjects) {
            self.subjects = subjects().map(|s| s.name.clone()).collect();
            self.windows.clear();
        }
        if self.windows.len() == WINDOWS {
            self.windows.remove(0);
        }
        self.windows.push(subjects().map(movement).collect());
    }

    /// Pairs of subjects whose movements correlate by 0.8 and more over at least six windows, the closest first.
    pub fn together(&self) -> Vec<Comovement> {
        if self.windows.len() < MIN_WINDOWS {
            return Vec::new();
        }
        let series: Vec<Vec<f64>> = (0..self.subjects.len()).map(|i| self.standardised(i)).collect();
        let mut pairs = Vec::new();
        for (i, a) in series.iter().enumerate() {
            for (j, b) in series.iter().enumerate().skip(i + 1) {
                let correlation: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                if correlation.abs() >= MIN_CORRELATION {
                    pairs.push((i, j, correlation));
                }
            }
        }
        pairs.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        pairs
            .into_iter()
            .take(MAX_PAIRS)
            .map(|(i, j, correlation)| Comovement {
                subjects: [i, j].map(|k| self.subjects.get(k).map(|name| short(name)).unwrap_or_default()),
                correlation: rounded(correlation),
            })
            .collect()
    }

    /// A subject's movements less their mean, with squares that sum to 1; all 0 where it did not move.
    fn standardised(&self, subject: usize) -> Vec<f64> {
        let at = |window: &Vec<f32>| window.get(subject).map_or(0.0, |x| f64::from(*x));
        let mean = self.windows.iter().map(at).sum::<f64>() / self.windows.len() as f64;
        let centred: Vec<f64> = self.windows.iter().map(|window| at(window) - mean).collect();
        let norm = centred.iter().map(|d| d * d).sum::<f64>().sqrt();
        centred
            .into_iter()
            .map(|d| if norm > 1e-9 { d / norm } else { 0.0 })
            .collect()
    }
}

fn movement(subject: &SubjectReport) -> f32 {
    let shift = subject
        .reference_moments
        .zip(subject.window_moments)
        .filter(|(reference, _)| reference.sd > 0.0)
        .map(|(reference, window)| (window.mean - reference.mean) / reference.sd);
    let effect = subject.statistics.map_or(0.0, |s| s.effect);
    shift.unwrap_or(effect).clamp(-1e6, 1e6) as f32
}

#[cfg(test)]
mod tests {
    use super::{EvidencePack, MAX_EVIDENCE_BYTES, Movements};
    use crate::SplitMix64;
    use crate::SubjectBuilder;
    use crate::cause::{Cause, Fault};
    use crate::monitor::{Monitor, Settings};
    use crate::profile::{DataInfo, Datatype, Importance, Kind, Profile};
    use crate::report::{DriftReport, State};

    fn normal(rng: &mut SplitMix64) -> f64 {
        (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0
    }

    /// A profile of these many numbers and one text with long and many categories.
    fn profile(numbers: usize) -> Profile {
        let mut builders: Vec<SubjectBuilder> = (0..numbers)
            .map(|i| {
                let name = format!("number_{i}");
                SubjectBuilder::new(&name, &name, 0, Datatype::Fp64, Kind::Numeric)
            })
            .collect();
        let mut text = SubjectBuilder::new("text", "text", 0, Datatype::Bytes, Kind::Categorical);
        let mut rng = SplitMix64::new(1);
        for i in 0..4000 {
            for builder in &mut builders {
                builder.push_number(normal(&mut rng));
            }
            text.push_text(&category(i));
        }
        builders.push(text);
        let example = Profile::from_json(include_bytes!("../../schema/example.profile.json")).expect("valid");
        Profile {
            data: DataInfo {
                rows: 4000,
                digest: None,
            },
            features: builders.into_iter().map(SubjectBuilder::finish).collect(),
            outputs: Vec::new(),
            importances: Some(
                [("number_0", 1.0), ("number_1", 3.0)]
                    .map(|(feature, importance)| Importance {
                        feature: feature.to_owned(),
                        importance,
                    })
                    .into(),
            ),
            calibration: None,
            ..example
        }
    }

    fn category(i: u64) -> String {
        format!(
            "{}: {}",
            i % 200,
            "a category with a name too long to show — ".repeat(4)
        )
    }

    /// The last report after `windows` windows, with the movements of all of them. The first two numbers move together by a noise of
    /// each window and, at the end, by `shift`; every other one moves by `others`.
    fn run(numbers: usize, windows: i64, shift: f64, others: f64) -> (DriftReport, Movements) {
        let mut monitor = Monitor::new(&profile(numbers), Settings::default(), 0).expect("valid");
        let mut movements = Movements::default();
        let mut rng = SplitMix64::new(2);
        let mut report = monitor.report(0);
        for window in 0..windows {
            let common = 0.3 * normal(&mut rng) + if window + 2 >= windows { shift } else { 0.0 };
            for i in 0..500 {
                for subject in 0..numbers {
                    let moved = if subject < 2 { common } else { others };
                    monitor.observe_number(subject, normal(&mut rng) + moved);
                }
                let i = if others > 0.0 { i % 20 } else { i };
                monitor.observe_text(numbers, category(i).as_bytes());
                let _ = monitor.end_row();
            }
            report = monitor.close_window(window);
            movements.observe(&report);
        }
        (report, movements)
    }

    #[test]
    fn subjects_are_ranked_and_shown_with_both_distributions() {
        let (report, movements) = run(4, 10, 2.0, 0.0);
        let pack = EvidencePack::new(&report, None, &movements);
        assert_eq!(
            (pack.state, pack.diagnosis.cause),
            (State::Drift, Cause::DataDrift)
        );
        let first = pack.subjects.first().expect("a subject");
        assert_eq!(
            first.name, "number_1",
            "of two that moved the same, the important one"
        );
        assert!(
            first.quality_share < 0.5 && first.effect > 0.3 && first.share > 0.5,
            "{first:?}"
        );
        let (reference, window) = (first.reference.expect("moments"), first.window.expect("moments"));
        assert!(window[0] - reference[0] > 1.0);
        assert!(first.top_bins.iter().all(|(_, share)| *share > 0.0) && first.top_bins.len() == 3);
        for shares in [&first.histogram.reference, &first.histogram.window] {
            assert_eq!(shares.len(), first.histogram.bins.len());
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.01);
        }
        let pair = pack.moving_together.first().expect("a pair");
        assert_eq!(pair.subjects, ["number_0", "number_1"]);
        assert!(pair.correlation > 0.9);
        assert_eq!(EvidencePack::new(&report, None, &movements), pack);
        let read: EvidencePack = serde_json::from_str(&pack.to_json()).expect("read back");
        assert_eq!(read, pack);
    }

    #[test]
    fn the_largest_pack_keeps_within_its_bytes() {
        let (report, movements) = run(60, 7, 1.0, 1.5);
        let pack = EvidencePack::new(&report, None, &movements);
        let bytes = pack.to_json().len();
        assert!(bytes <= MAX_EVIDENCE_BYTES, "{bytes}");
        assert!(bytes > MAX_EVIDENCE_BYTES / 3, "room is used: {bytes}");
        assert_eq!(pack.left_out + pack.subjects.len(), report.ranking.len());
        let text = EvidencePack::new(&run(2, 3, 0.0, 1.5).0, None, &movements);
        let text = text
            .subjects
            .iter()
            .find(|s| s.name == "text")
            .expect("the text changed");
        assert!(text.histogram.bins.len() <= 20 && text.histogram.bins.iter().all(|name| name.len() <= 51));
        assert_eq!(text.histogram.bins.last().map(String::as_str), Some("…"));
    }

    #[test]
    fn missing_values_are_told_from_a_change_of_shape() {
        let mut monitor = Monitor::new(&profile(2), Settings::default(), 0).expect("valid");
        let mut rng = SplitMix64::new(3);
        let mut report = monitor.report(0);
        for i in 0..1500_u64 {
            if rng.uniform() < 0.4 {
                monitor.observe_missing(0);
            } else {
                monitor.observe_number(0, normal(&mut rng));
            }
            monitor.observe_number(1, normal(&mut rng));
            monitor.observe_text(2, category(i).as_bytes());
            let _ = monitor.end_row();
            if monitor.open_rows() >= 500 {
                report = monitor.close_window(i as i64);
            }
        }
        let pack = EvidencePack::new(&report, None, &Movements::default());
        let subject = pack
            .subjects
            .iter()
            .find(|s| s.name == "number_0")
            .expect("it changed");
        assert!(subject.quality_share > 0.9, "{subject:?}");
        assert_eq!(
            subject.top_bins.first().map(|(name, _)| name.as_str()),
            Some("missing")
        );
        assert_eq!(
            pack.diagnosis.faults.first().map(|f| f.fault),
            Some(Fault::Missing)
        );
        assert!(pack.moving_together.is_empty());
    }
}
