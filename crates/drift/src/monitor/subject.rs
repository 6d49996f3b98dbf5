//! One monitored column: its counters, its window and its sequential test.

use super::SubjectInfo;
use super::settings::Rules;
use super::track::{Track, Verdict};
use crate::SplitMix64;
use crate::binner::{Binner, Place};
use crate::comparison;
use crate::profile::{Kind, Numeric, Subject};
use crate::report::{BinReport, Counters, Evidence, MomentsReport, State, Statistics, SubjectReport};
use crate::sequential::{Bets, ConformalDetector};
use crate::window::Window;

/// Windows whose serial correlation decides whether evidence is calibrated.
const SERIAL_HISTORY: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct SubjectMonitor {
    pub(super) info: SubjectInfo,
    pub(super) track: Track,
    reference: Reference,
    binner: Binner,
    totals: Box<[u64]>,
    window: Window,
    detector: ConformalDetector,
    ties: SplitMix64,
    serial: Serial,
    /// Correlations of the last closed windows, newest last.
    serial_history: [Option<f64>; SERIAL_HISTORY],
    /// Windows in a row below the p-value of the budget.
    significant_run: u32,
}

/// What is needed of the profile.
#[derive(Clone, Debug)]
struct Reference {
    counts: Box<[u64]>,
    edges: Box<[f64]>,
    means: Box<[Option<f64>]>,
    moments: Option<MomentsReport>,
    /// Standard deviation, or what the quartiles make of it; none without spread.
    spread: Option<f64>,
    counts_unseen: bool,
}

/// A window as evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluation {
    pub(super) statistics: Option<Statistics>,
    pub(super) evidence: Evidence,
    excess: f64,
    null_error: f64,
    pub(super) insufficient: bool,
}

impl SubjectMonitor {
    pub(super) fn new(subject: &Subject, rules: &Rules, index: usize, track: Track) -> Self {
        let counts = subject.reference_counts();
        let centre = subject.numeric.as_ref().map(|n| n.mean.unwrap_or(0.0));
        let detector =
            ConformalDetector::new(&counts, Bets::for_reference(&counts), rules.settings.pool_growth);
        Self {
            info: SubjectInfo {
                name: subject.name.clone(),
                tensor: subject.tensor.clone(),
                column: subject.column,
                datatype: subject.datatype,
                kind: subject.kind,
                role: subject.role,
                class: subject.class.clone(),
                bins: subject.bin_names(),
            },
            track,
            reference: Reference::new(subject, &counts),
            binner: Binner::new(subject),
            totals: vec![0; counts.len()].into(),
            window: Window::new(counts.len(), centre),
            detector,
            ties: SplitMix64::new(
                rules.settings.seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            ),
            serial: Serial::default(),
            serial_history: [None; SERIAL_HISTORY],
            significant_run: 0,
        }
    }

    pub(super) fn observe_number(&mut self, x: f64) {
        self.observe(self.binner.number(x));
    }

    pub(super) fn observe_text(&mut self, text: &[u8]) {
        self.observe(self.binner.text(text));
    }

    pub(super) fn observe_boolean(&mut self, value: bool) {
        self.observe(self.binner.boolean(value));
    }

    pub(super) fn observe_missing(&mut self) {
        self.observe(self.binner.missing());
    }

    fn observe(&mut self, place: Place) {
        let bin = match place {
            Place::Number(bin, x) => {
                self.window.observe_number(bin, x);
                bin
            }
            Place::Bin(bin) => {
                self.window.observe(bin);
                bin
            }
        };
        if let Some(total) = self.totals.get_mut(bin) {
            *total += 1;
        }
        if let Some(rank) = self.detector.update(bin, self.ties.uniform()) {
            self.serial.update(rank);
        }
    }

    pub(super) fn totals(&self) -> &[u64] {
        &self.totals
    }

    pub(super) fn counters(&self) -> Counters {
        let last = self.totals.len().saturating_sub(1);
        let at = |bin: usize| self.totals.get(bin).copied().unwrap_or(0);
        let is_ranged = !self.reference.edges.is_empty();
        Counters {
            observed: self.totals.iter().sum(),
            missing: at(last),
            out_of_range: if is_ranged {
                at(0) + at(last.saturating_sub(1))
            } else {
                0
            },
            unseen: if self.reference.counts_unseen {
                at(last.saturating_sub(1))
            } else {
                0
            },
        }
    }

    /// Compares the window, as far as it is, with the reference.
    pub(super) fn evaluate(&self, rules: &Rules) -> Evaluation {
        let serial = self.serial.value();
        // A change inside a window looks like dependence too; real dependence shows in every window.
        let newest = serial.map_or(0.0, f64::abs);
        let least = self.serial_history[1..]
            .iter()
            .flatten()
            .map(|r| r.abs())
            .fold(newest, f64::min);
        let calibrated = least <= rules.settings.serial_correlation;
        // Dependent rows say less than their number: n (1 − ρ)/(1 + ρ) of them would say as much.
        let rho = if calibrated {
            0.0
        } else {
            serial.unwrap_or(0.0).clamp(0.0, 0.99)
        };
        let shrink = (1.0 - rho) / (1.0 + rho);

        let gate = rules.window_p_value(self.window.rows());
        let compared = comparison::compare(
            &self.reference.counts,
            self.window.bins(),
            self.is_ordered(),
            shrink,
            gate,
        );
        let wasserstein = self.wasserstein();
        let statistics = compared.map(|c| Statistics {
            wasserstein,
            wasserstein_normed: wasserstein.zip(self.reference.spread).map(|(w, sd)| w / sd),
            ..c.statistics
        });
        let ln = self.detector.ln_evidence();
        let run = if statistics.is_some_and(|s| s.p_value <= gate) {
            self.significant_run + 1
        } else {
            0
        };
        let sufficient = (calibrated && ln >= rules.ln_evidence()) || run >= rules.settings.persistence;
        let null_error = compared.map_or(f64::INFINITY, |c| c.null_error);
        let excess = compared.map_or(0.0, |c| c.excess);
        // Where chance alone makes half of the effect that would be drift, nothing can be said, but for a change so large
        // that it shows all the same.
        let drift = rules.settings.drift_effect;
        let is_plain = statistics.is_some_and(|s| excess - 2.0 * s.effect_error >= drift);
        let too_few = self.window.rows() < rules.settings.min_rows;
        let insufficient = too_few || (null_error > drift / 2.0 && !is_plain);
        Evaluation {
            statistics,
            evidence: Evidence {
                log10: (ln / std::f64::consts::LN_10).max(-300.0),
                sufficient,
                calibrated,
                serial_correlation: serial,
            },
            excess,
            null_error,
            insufficient,
        }
    }

    /// Ends the window: takes its verdict, and returns the state before when it changed.
    pub(super) fn close(
        &mut self,
        evaluation: &Evaluation,
        rules: &Rules,
        now_unix_ms: i64,
    ) -> Option<State> {
        self.serial_history.rotate_left(1);
        self.serial_history[SERIAL_HISTORY - 1] = self.serial.value();
        self.serial = Serial::default();
        let gate = rules.window_p_value(self.window.rows());
        self.window.clear();
        let statistics = evaluation.statistics.filter(|_| !evaluation.insufficient)?;
        self.significant_run = if statistics.p_value <= gate {
            self.significant_run.saturating_add(1)
        } else {
            0
        };
        let verdict = Verdict {
            evidence: evaluation.evidence.sufficient,
            excess: evaluation.excess,
            error: statistics.effect_error,
            null_error: evaluation.null_error,
        };
        let before = self.track.step(verdict, rules, now_unix_ms)?;
        match self.track.state {
            // What comes now must not become the reference.
            State::Warning | State::Drift => self.detector.freeze(),
            State::Recovered => {
                self.detector
                    .rebase(&self.reference.counts, rules.settings.pool_growth);
                self.detector.restart();
                self.significant_run = 0;
            }
            State::Stable => {}
        }
        Some(before)
    }

    pub(super) fn report(&self, evaluation: &Evaluation) -> SubjectReport {
        let moments = self.window.moments().map(|m| MomentsReport {
            mean: m.mean,
            sd: m.variance.sqrt(),
            min: m.min,
            max: m.max,
        });
        SubjectReport {
            name: self.info.name.clone(),
            kind: self.info.kind,
            role: self.info.role,
            class: self.info.class.clone(),
            state: self.track.state,
            episode: self.track.episode,
            since_unix_ms: self.track.since_unix_ms,
            insufficient: evaluation.insufficient,
            statistics: evaluation.statistics,
            evidence: evaluation.evidence,
            counters: self.counters(),
            reference_moments: self.reference.moments,
            window_moments: moments,
            bins: self.bins(),
        }
    }

    fn bins(&self) -> Vec<BinReport> {
        let (reference, window) = (&self.reference.counts, self.window.bins());
        let terms = comparison::psi_terms(reference, window);
        comparison::bin_reports(
            &self.info.bins,
            &self.reference.edges,
            reference,
            window,
            &self.totals,
            &terms,
        )
    }

    /// Wasserstein-1 with each bin's rows at its mean; exact for levels, off by at most a bin's width times its share.
    fn wasserstein(&self) -> Option<f64> {
        let last = self.reference.counts.len().checked_sub(1)?;
        let detection: Vec<Option<f64>> = (0..last).map(|bin| self.window.bin_mean(bin)).collect();
        comparison::wasserstein(
            self.reference
                .counts
                .get(..last)?
                .iter()
                .zip(&self.reference.means),
            self.window.bins().get(..last)?.iter().zip(&detection),
        )
    }

    fn is_ordered(&self) -> bool {
        matches!(self.info.kind, Kind::Numeric | Kind::TextLength)
    }

    /// Bytes of what changes as rows arrive; what it shares with the profile is not counted.
    pub(super) fn state_bytes(&self) -> usize {
        size_of::<Track>()
            + size_of_val(&*self.totals)
            + size_of::<Window>()
            + 2 * size_of_val(self.window.bins())
            + self.detector.size_bytes()
            + size_of::<Serial>()
            + size_of_val(&self.serial_history)
    }
}

impl Reference {
    fn new(subject: &Subject, counts: &[u64]) -> Self {
        let numeric = subject.numeric.as_ref();
        let unseen_category = subject.categorical.as_ref().is_some_and(|c| c.other == 0);
        Self {
            counts: counts.into(),
            edges: numeric.map(|n| n.edges.clone()).unwrap_or_default().into(),
            means: numeric.map(|n| n.means.clone()).unwrap_or_default().into(),
            moments: numeric.and_then(reference_moments),
            spread: numeric.and_then(spread),
            counts_unseen: unseen_category || numeric.is_some_and(|n| n.edges.is_empty()),
        }
    }
}

fn reference_moments(numeric: &Numeric) -> Option<MomentsReport> {
    let (mean, min, max) = (numeric.mean?, numeric.min?, numeric.max?);
    Some(MomentsReport {
        mean,
        sd: numeric.variance.unwrap_or(0.0).sqrt(),
        min,
        max,
    })
}

/// Standard deviation; with none, the interquartile range as a normal law has it.
fn spread(numeric: &Numeric) -> Option<f64> {
    let at = |level: f64| {
        numeric
            .quantiles
            .iter()
            .find(|q| q.level == level)
            .map(|q| q.value)
    };
    let quartiles = || Some(at(0.75)? - at(0.25)?);
    let sd = numeric.variance.map(f64::sqrt).filter(|sd| *sd > 0.0);
    sd.or_else(|| quartiles().map(|iqr| iqr / 1.349))
        .filter(|s| *s > 0.0)
}

/// Lag-1 correlation within a window.
#[derive(Clone, Copy, Debug, Default)]
struct Serial {
    last: Option<f64>,
    pairs: u64,
    sum: f64,
    squares: f64,
    products: f64,
}

impl Serial {
    const MIN_PAIRS: u64 = 100;

    fn update(&mut self, rank: f64) {
        let d = rank - 0.5;
        if let Some(last) = self.last {
            self.pairs += 1;
            self.sum += d;
            self.squares += d * d;
            self.products += d * last;
        }
        self.last = Some(d);
    }

    fn value(&self) -> Option<f64> {
        if self.pairs < Self::MIN_PAIRS {
            return None;
        }
        let n = self.pairs as f64;
        let mean = self.sum / n;
        let variance = self.squares / n - mean * mean;
        // A window inside one narrow cell has no order to speak of.
        (variance > 1e-9).then(|| ((self.products / n - mean * mean) / variance).clamp(-1.0, 1.0))
    }
}
