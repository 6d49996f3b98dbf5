//! One monitored column: its counters, its window and its sequential test.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::SubjectInfo;
use super::serial::Serial;
use super::settings::Rules;
use super::track::{Track, Verdict};
use crate::SplitMix64;
use crate::binner::{Binner, Place};
use crate::comparison::{self, Effect};
use crate::profile::{Kind, Numeric, SeasonalCounts, Subject};
use crate::report::{
    BinReport, Counters, Evidence, MomentsReport, OnsetReport, State, Statistics, SubjectReport,
};
use crate::season::{HourOfWeek, SeasonState, Seasonal};
use crate::sequential::{Bets, ConformalDetector};
use crate::window::Window;

/// Most bins that a subject is watched in: the rarest categories of a longer list share `other`. So many keep the state within 2 KiB.
pub const MAX_BINS: usize = 44;

/// Evidence that had no effect behind it is looked at again when it has grown this many times.
const LOOK_AGAIN: f64 = 10.0;

#[derive(Clone, Debug)]
pub(super) struct SubjectMonitor {
    pub(super) info: SubjectInfo,
    reference: Reference,
    binner: Binner,
    pub(super) season: Option<Seasonal>,
    pub(super) state: SubjectState,
}

/// What changes as rows arrive, but for a season; all of it is in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SubjectState {
    pub(super) track: Track,
    totals: Box<[u64]>,
    unseen: u64,
    window: Window,
    detector: ConformalDetector,
    ties: SplitMix64,
    serial: Serial,
    /// Windows in a row below the p-value of the budget.
    significant_run: u32,
    /// The evidence that was there when a verdict last found too small an effect behind it; 0 when none did.
    looked_at: f64,
}

/// What is needed of the profile.
#[derive(Clone, Debug)]
struct Reference {
    counts: Box<[u64]>,
    /// Rows per cell of the sequential test: `counts`, or with a season the ranks within the hour.
    cells: Box<[u64]>,
    edges: Box<[f64]>,
    means: Box<[Option<f64>]>,
    moments: Option<MomentsReport>,
    /// Standard deviation, or what the quartiles make of it; none without spread.
    spread: Option<f64>,
    /// Bins of the profile, the one for missing values last.
    bins: usize,
    /// The bin of the profile for values that the reference never saw.
    unseen: Option<usize>,
}

/// A window as evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluation {
    pub(super) statistics: Option<Statistics>,
    pub(super) evidence: Evidence,
    onset: Option<Onset>,
    excess: f64,
    null_error: f64,
    pub(super) insufficient: bool,
}

/// Since when the sequential test is sure of a change, and how large it has been since.
#[derive(Clone, Copy, Debug)]
struct Onset {
    rows: u64,
    effect: Effect,
}

impl Evaluation {
    /// The effect that speaks for this subject as a cause: of a change that is certain since its onset, or of the window where it stands out
    /// from what chance makes of nothing. The larger one: a window may begin before a change, and a change become larger.
    pub(super) fn effect(&self) -> f64 {
        let since_onset = self.onset.map(|o| o.effect.excess.max(0.0));
        let in_window = self.statistics.filter(|s| !self.insufficient && s.z >= 2.0);
        let in_window = in_window.map_or(0.0, |s| s.effect);
        since_onset.map_or(in_window, |e| e.max(in_window))
    }
}

impl SubjectMonitor {
    pub(super) fn new(
        subject: &Subject,
        season: Option<&SeasonalCounts>,
        rules: &Rules,
        index: usize,
        track: Track,
    ) -> Self {
        let watched = watched(subject);
        let counts = watched.reference_counts();
        let season = season.and_then(|season| Seasonal::new(season, counts.len()));
        let cells = season
            .as_ref()
            .map_or_else(|| counts.clone(), Seasonal::rank_reference);
        let centre = subject.numeric.as_ref().map(|n| n.mean.unwrap_or(0.0));
        Self {
            info: SubjectInfo {
                name: subject.name.clone(),
                tensor: subject.tensor.clone(),
                column: subject.column,
                datatype: subject.datatype,
                kind: subject.kind,
                role: subject.role,
                class: subject.class.clone(),
                bins: watched.bin_names(),
            },
            binner: Binner::new(subject),
            state: SubjectState {
                track,
                totals: vec![0; counts.len()].into(),
                unseen: 0,
                window: Window::new(counts.len(), centre),
                detector: ConformalDetector::new(&cells, Bets::for_reference(&cells)),
                ties: SplitMix64::new(
                    rules.settings.seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                ),
                serial: Serial::default(),
                significant_run: 0,
                looked_at: 0.0,
            },
            reference: Reference::new(subject, &counts, cells),
            season,
        }
    }

    pub(super) fn observe_number(&mut self, x: f64, hour: HourOfWeek) {
        self.observe(self.binner.number(x), hour);
    }

    pub(super) fn observe_text(&mut self, text: &[u8], hour: HourOfWeek) {
        self.observe(self.binner.text(text), hour);
    }

    pub(super) fn observe_boolean(&mut self, value: bool, hour: HourOfWeek) {
        self.observe(self.binner.boolean(value), hour);
    }

    pub(super) fn observe_missing(&mut self, hour: HourOfWeek) {
        self.observe(self.binner.missing(), hour);
    }

    fn observe(&mut self, place: Place, hour: HourOfWeek) {
        let state = &mut self.state;
        let bin = match place {
            Place::Number(bin, x) => {
                let bin = self.reference.watched_bin(bin, &mut state.unseen);
                state.window.observe_number(bin, x);
                bin
            }
            Place::Bin(bin) => {
                let bin = self.reference.watched_bin(bin, &mut state.unseen);
                state.window.observe(bin);
                bin
            }
        };
        if let Some(total) = state.totals.get_mut(bin) {
            *total += 1;
        }
        let cell = match &mut self.season {
            None => bin,
            // What comes during an episode must not become the reference.
            Some(season) => {
                let grows = state.track.state.level() == 0;
                season.observe(hour, bin, state.ties.uniform(), grows)
            }
        };
        if let Some(rank) = state.detector.update(cell, state.ties.uniform()) {
            state.serial.update(rank);
        }
    }

    /// Whether evidence has come up that no verdict has been taken on: the window should not go on for long.
    pub(super) fn is_due(&self, rules: &Rules) -> bool {
        let state = &self.state;
        state.detector.evidence() >= rules.evidence.max(LOOK_AGAIN * state.looked_at)
            && state.track.state.level() == 0
            && state.serial.is_known()
            && self.is_calibrated(rules)
    }

    /// Whether rows are independent enough for the evidence to mean what it says.
    fn is_calibrated(&self, rules: &Rules) -> bool {
        self.state.serial.least() <= rules.settings.serial_correlation
    }

    pub(super) fn ln_evidence(&self) -> f64 {
        self.state.detector.ln_evidence()
    }

    pub(super) fn totals(&self) -> &[u64] {
        &self.state.totals
    }

    pub(super) fn counters(&self) -> Counters {
        let totals = &self.state.totals;
        let last = totals.len().saturating_sub(1);
        let at = |bin: usize| totals.get(bin).copied().unwrap_or(0);
        let is_ranged = !self.reference.edges.is_empty();
        Counters {
            observed: totals.iter().sum(),
            missing: at(last),
            out_of_range: if is_ranged {
                at(0) + at(last.saturating_sub(1))
            } else {
                0
            },
            unseen: self.state.unseen,
        }
    }

    /// Compares the window, as far as it is, with the reference.
    pub(super) fn evaluate(&self, rules: &Rules) -> Evaluation {
        let state = &self.state;
        let serial = state.serial.value();
        let calibrated = self.is_calibrated(rules);
        // Positively dependent rows say less than their number: n (1 − ρ)/(1 + ρ) of them would say as much. Negatively dependent ones
        // would say more; they are not given credit for it.
        let rho = if calibrated {
            0.0
        } else {
            serial.unwrap_or(0.0).clamp(0.0, 0.99)
        };
        let shrink = (1.0 - rho) / (1.0 + rho);

        let gate = rules.window_p_value(state.window.rows());
        let reference = self.expected();
        let compared = comparison::compare(&reference, state.window.bins(), self.is_ordered(), shrink, gate);
        let wasserstein = self.wasserstein(&reference);
        let statistics = compared.map(|c| Statistics {
            wasserstein,
            // A spread near the smallest number is none: nothing can be told in it.
            wasserstein_normed: wasserstein
                .zip(self.reference.spread)
                .map(|(w, sd)| w / sd)
                .filter(|w| w.is_finite()),
            ..c.statistics
        });
        let ln = state.detector.ln_evidence();
        let is_sure = calibrated && state.serial.is_known() && state.detector.evidence() >= rules.evidence;
        let onset = is_sure
            .then(|| state.detector.onset(rules.evidence))
            .flatten()
            .and_then(|onset| {
                let counts: Vec<u64> = onset.counts.iter().map(|n| u64::from(*n)).collect();
                let is_ordered = self.is_ordered() || self.season.is_some();
                let effect = comparison::effect(&self.reference.cells, &counts, is_ordered)?;
                Some(Onset {
                    rows: onset.rows,
                    effect,
                })
            });
        let run = if statistics.is_some_and(|s| s.p_value <= gate) {
            state.significant_run + 1
        } else {
            0
        };
        let sufficient = is_sure || run >= rules.settings.persistence;
        let null_error = compared.map_or(f64::INFINITY, |c| c.null_error);
        let excess = compared.map_or(0.0, |c| c.excess);
        // Where chance alone makes half of the effect that would be drift, nothing can be said, but for a change so large
        // that it shows all the same.
        let drift = rules.settings.drift_effect;
        let is_plain = statistics.is_some_and(|s| excess - 2.0 * s.effect_error >= drift);
        let too_few = state.window.rows() < rules.settings.min_rows;
        let insufficient = too_few || (null_error > drift / 2.0 && !is_plain);
        Evaluation {
            statistics,
            evidence: Evidence {
                log10: (ln / std::f64::consts::LN_10).max(-300.0),
                sufficient,
                calibrated,
                serial_correlation: serial,
            },
            onset,
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
        let state = &mut self.state;
        state.serial.close_window();
        let gate = rules.window_p_value(state.window.rows());
        state.window.clear();
        if let Some(season) = &mut self.season {
            season.close_window();
        }
        let statistics = evaluation.statistics.filter(|_| !evaluation.insufficient);
        if let Some(statistics) = statistics {
            state.significant_run = if statistics.p_value <= gate {
                state.significant_run.saturating_add(1)
            } else {
                0
            };
        } else if evaluation.onset.is_none() {
            return None;
        }
        let verdict = Verdict {
            evidence: evaluation.evidence.sufficient,
            window: statistics.map(|s| Effect {
                excess: evaluation.excess,
                error: s.effect_error,
                null_error: evaluation.null_error,
            }),
            since_onset: evaluation.onset.map(|o| o.effect),
        };
        let before = state.track.step(verdict, rules, now_unix_ms);
        match state.track.state {
            // What comes now must not become the reference.
            State::Warning | State::Drift => state.detector.freeze(),
            State::Recovered => {
                state.detector.rebase(&self.reference.cells);
                state.detector.restart();
                state.significant_run = 0;
                state.looked_at = 0.0;
            }
            State::Stable => state.look_again(evaluation.onset, rules),
        }
        before
    }

    /// What of its season changes as rows arrive.
    pub(super) fn season_state(&self) -> Option<&SeasonState> {
        self.season.as_ref().map(|season| &season.state)
    }

    /// Whether a season's state read from elsewhere has the shape of its own.
    pub(super) fn season_fits(&self, other: Option<&SeasonState>) -> bool {
        match (self.season_state(), other) {
            (Some(own), Some(other)) => own.fits(other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Takes in what another replica saw of this subject.
    pub(super) fn merge(&mut self, other: &Self) {
        if let (Some(season), Some(other)) = (&mut self.season, &other.season) {
            season.merge(other);
        }
        let (state, other) = (&mut self.state, &other.state);
        state.track.merge(&other.track);
        for (total, other) in state.totals.iter_mut().zip(&other.totals) {
            *total += other;
        }
        state.unseen += other.unseen;
        state.window.merge(&other.window);
        state.detector.merge(&other.detector, &self.reference.cells);
        state.serial.merge(&other.serial);
        state.significant_run = state.significant_run.max(other.significant_run);
        state.looked_at = state.looked_at.max(other.looked_at);
    }

    pub(super) fn report(&self, evaluation: &Evaluation) -> SubjectReport {
        let moments = self.state.window.moments().map(|m| MomentsReport {
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
            state: self.state.track.state,
            episode: self.state.track.episode,
            since_unix_ms: self.state.track.since_unix_ms,
            insufficient: evaluation.insufficient,
            statistics: evaluation.statistics,
            evidence: evaluation.evidence,
            onset: evaluation.onset.map(|o| OnsetReport {
                rows_ago: o.rows,
                effect: o.effect.excess.max(0.0),
                effect_error: o.effect.error,
            }),
            counters: self.counters(),
            reference_moments: self.reference.moments,
            window_moments: moments,
            bins: self.bins(),
        }
    }

    fn bins(&self) -> Vec<BinReport> {
        let (reference, window) = (self.expected(), self.state.window.bins());
        let terms = comparison::psi_terms(&reference, window);
        comparison::bin_reports(
            &self.info.bins,
            &self.reference.edges,
            &reference,
            window,
            &self.state.totals,
            &terms,
        )
    }

    /// Rows per bin that the window is compared with: those of the reference, with a season those of the window's hours.
    fn expected(&self) -> Cow<'_, [u64]> {
        let seasonal = self.season.as_ref().and_then(Seasonal::expected);
        seasonal.map_or(Cow::Borrowed(&self.reference.counts), Cow::Owned)
    }

    /// Wasserstein-1 with each bin's rows at its mean; exact for levels, off by at most a bin's width times its share.
    fn wasserstein(&self, reference: &[u64]) -> Option<f64> {
        let last = reference.len().checked_sub(1)?;
        let detection: Vec<Option<f64>> = (0..last).map(|bin| self.state.window.bin_mean(bin)).collect();
        comparison::wasserstein(
            reference.get(..last)?.iter().zip(&self.reference.means),
            self.state.window.bins().get(..last)?.iter().zip(&detection),
        )
    }

    fn is_ordered(&self) -> bool {
        matches!(self.info.kind, Kind::Numeric | Kind::TextLength)
    }

    /// Bytes of what changes as rows arrive, and of the season; what else it shares with the profile is not counted.
    pub(super) fn state_bytes(&self) -> usize {
        let state = &self.state;
        size_of::<SubjectState>()
            + self.season.as_ref().map_or(0, Seasonal::heap_bytes)
            + size_of_val(&*state.totals)
            + state.window.heap_bytes()
            + state.detector.size_bytes()
            - size_of::<ConformalDetector>()
    }
}

impl SubjectState {
    /// Whether a state read from elsewhere has the shape of this one.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.totals.len() == other.totals.len()
            && self.window.fits(&other.window)
            && self.detector.fits(&other.detector)
    }

    /// What becomes of evidence without an effect. The test goes on until the rows since the onset are enough to say that the change is
    /// small for certain, or over; then it starts again. Its pool takes the new law in, so that the next change stands out against it;
    /// how far both are from the reference is for the effect to say.
    fn look_again(&mut self, onset: Option<Onset>, rules: &Rules) {
        let Some(effect) = onset.map(|o| o.effect) else {
            return;
        };
        self.looked_at = self.detector.evidence();
        if effect.excess + 2.0 * effect.error < rules.settings.warning_effect {
            self.detector.restart();
            self.looked_at = 0.0;
        }
    }
}

impl Reference {
    fn new(subject: &Subject, counts: &[u64], cells: Vec<u64>) -> Self {
        let numeric = subject.numeric.as_ref();
        let bins = subject.reference_counts().len();
        let unseen_category = subject.categorical.as_ref().is_some_and(|c| c.other == 0);
        let unseen = unseen_category || numeric.is_some_and(|n| n.edges.is_empty());
        Self {
            counts: counts.into(),
            cells: cells.into(),
            edges: numeric.map(|n| n.edges.clone()).unwrap_or_default().into(),
            means: numeric.map(|n| n.means.clone()).unwrap_or_default().into(),
            moments: numeric.and_then(reference_moments),
            spread: numeric.and_then(spread),
            bins,
            unseen: unseen.then(|| bins.saturating_sub(2)),
        }
    }

    /// The bin that a bin of the profile is watched in; counts the values that the reference never saw.
    fn watched_bin(&self, bin: usize, unseen: &mut u64) -> usize {
        *unseen += u64::from(self.unseen == Some(bin));
        let last = self.counts.len().saturating_sub(1);
        if bin + 1 == self.bins {
            last
        } else {
            bin.min(last.saturating_sub(1))
        }
    }
}

/// A subject with at most [`MAX_BINS`].
fn watched(subject: &Subject) -> Cow<'_, Subject> {
    // Two bins are for `other` and `missing`.
    const LISTED: usize = MAX_BINS - 2;
    let mut watched = Cow::Borrowed(subject);
    let listed = subject.categorical.as_ref().map_or(0, |c| c.categories.len());
    if listed > LISTED
        && let Some(categorical) = watched.to_mut().categorical.as_mut()
    {
        let rare = categorical.categories.split_off(LISTED);
        categorical.other += rare.iter().map(|c| c.count).sum::<u64>();
    }
    watched
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
