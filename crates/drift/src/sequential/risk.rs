//! Tracks a model's loss by betting: has it become worse than it was, by more than is tolerated?
//!
//! Labels with the loss of each row in `[0, 1]` (1 for a wrong class) arrive one by one. The source's risk is known from so many rows, so that
//! it is below `upper(source)` but for a small probability. Whoever bets on each loss that it exceeds the threshold
//! `θ = upper(source) + ε` wins nothing in the long run while the risk is at most `θ`, whatever the losses depend on; evidence that he
//! does is evidence of a change of the concept. A benign shift of the inputs raises nothing.
//!
//! Sources: Podkopaev and Ramdas (2022), "Tracking the risk of a deployed model and detecting harmful distribution shifts", arXiv 2110.06177;
//! Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", arXiv 2010.09686, for the confidence
//! sequence; Shin, Ramdas, Rinaldo (2023), "E-detectors", arXiv 2203.03532, for starting again at every row.

use serde::{Deserialize, Serialize};

use crate::performance::wilson;

/// Steps of the unit interval on which the confidence sequence is kept.
const GRID: usize = 100;
/// Probability that the confidence sequence ever misses the risk.
const MISS: f64 = 0.05;
/// Most that a bet of the confidence sequence stakes: with it a loss of all is impossible at any mean.
const MAX_STAKE: f64 = 0.5;
/// Bets against the threshold: the boldest stakes half of what may be staked, each other one half of the one before.
const BETS: usize = 6;
/// Standard deviations between the source's risk and the upper limit it is taken for: one-sided 99.9 %.
const SOURCE_Z: f64 = 3.09;
/// Evidence does not grow beyond this.
const MAX_EVIDENCE: f64 = 1e300;

/// Settings of a [`RiskTracker`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskSettings {
    /// Rise of the risk that is no drift, `ε`.
    pub tolerance: f64,
    /// False alarms per label while the risk is at most `θ`: one in a million labels.
    pub false_alarm_rate: f64,
    /// Labels from which the source's risk is learned where it is not known.
    pub learn_rows: u64,
}

impl Default for RiskSettings {
    fn default() -> Self {
        Self {
            tolerance: 0.02,
            false_alarm_rate: 1e-6,
            learn_rows: 1000,
        }
    }
}

/// The risk of a model where it is known to be good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRisk {
    /// Mean loss, in `[0, 1]`.
    pub mean: f64,
    /// Rows that it was measured on.
    pub rows: u64,
}

impl SourceRisk {
    /// The upper limit that the risk stays below with 99.9 % confidence (Wilson); 1 without rows.
    pub fn upper(&self) -> f64 {
        if self.rows == 0 {
            return 1.0;
        }
        wilson(self.mean.clamp(0.0, 1.0), self.rows as f64, SOURCE_Z).1
    }
}

/// Sequential test of whether the mean loss has come to exceed that of the source by more than is tolerated.
///
/// 2 KiB, a microsecond a label. While every loss has a conditional mean of at most `θ`, P(alarm within T labels) ≤ T · rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RiskTracker {
    settings: RiskSettings,
    source: Option<SourceRisk>,
    rows: u64,
    sum: f64,
    /// Squared distances from the mean before each loss.
    spread: f64,
    /// Logarithm of the wealth from bets that the mean is above each point of the grid.
    above: Box<[f64]>,
    /// The same for below.
    below: Box<[f64]>,
    /// Shiryaev–Roberts sums of the bets against the threshold.
    evidence: [f64; BETS],
}

/// Serialized form, before it is checked.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    settings: RiskSettings,
    source: Option<SourceRisk>,
    rows: u64,
    sum: f64,
    spread: f64,
    above: Vec<f64>,
    below: Vec<f64>,
    evidence: [f64; BETS],
}

impl RiskTracker {
    /// A tracker of losses that should be no worse than `source`; without one, than the first losses.
    pub fn new(source: Option<SourceRisk>, settings: RiskSettings) -> Self {
        Self {
            settings,
            source,
            rows: 0,
            sum: 0.0,
            spread: 0.0,
            above: vec![0.0; GRID + 1].into(),
            below: vec![0.0; GRID + 1].into(),
            evidence: [0.0; BETS],
        }
    }

    /// Takes a loss, clamped into `[0, 1]`; NaN is ignored. True while the evidence is sufficient.
    pub fn update(&mut self, loss: f64) -> bool {
        if loss.is_nan() {
            return self.is_alarmed();
        }
        let x = loss.clamp(0.0, 1.0);
        let stake = self.stake();
        for (i, (above, below)) in self.above.iter_mut().zip(&mut self.below).enumerate() {
            let bet = stake * (x - i as f64 / GRID as f64);
            *above += bet.ln_1p();
            *below += (-bet).ln_1p();
        }
        if let Some(threshold) = self.threshold() {
            let mut stake = 0.5 / threshold;
            for evidence in &mut self.evidence {
                let e = 1.0 + stake * (x - threshold);
                *evidence = ((*evidence + 1.0) * e).min(MAX_EVIDENCE);
                stake *= 0.5;
            }
        }
        self.spread += (x - self.centre()).powi(2);
        self.rows += 1;
        self.sum += x;
        if self.source.is_none() && self.rows >= self.settings.learn_rows {
            self.source = self.mean().map(|mean| SourceRisk {
                mean,
                rows: self.rows,
            });
        }
        self.is_alarmed()
    }

    /// Whether the risk exceeds the threshold, by the evidence asked for.
    pub fn is_alarmed(&self) -> bool {
        self.ln_evidence() >= -self.settings.false_alarm_rate.ln()
    }

    /// Natural logarithm of the evidence that the risk exceeds the threshold; −∞ before the first bet.
    pub fn ln_evidence(&self) -> f64 {
        (self.evidence.iter().sum::<f64>() / BETS as f64).ln()
    }

    /// What the risk is compared with; `None` while it is being learned.
    pub fn source(&self) -> Option<SourceRisk> {
        self.source
    }

    /// `θ`: the upper limit of the source's risk and the tolerance; `None` while it is being learned, and where no loss could
    /// exceed it.
    pub fn threshold(&self) -> Option<f64> {
        let threshold = self.source?.upper() + self.settings.tolerance;
        (threshold < 1.0).then_some(threshold)
    }

    /// Labels since the start.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Mean loss since the start; `None` before the first label.
    pub fn mean(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / self.rows as f64)
    }

    /// Limits that hold the risk at all times at once with 95 % confidence, as long as it does not change.
    pub fn bounds(&self) -> (f64, f64) {
        let needed = (2.0 / MISS).ln();
        let lower = crossing(self.above.iter().copied(), needed);
        let upper = crossing(self.below.iter().rev().copied(), needed);
        (lower, 1.0 - upper)
    }

    /// Forgets all evidence and keeps the rest: a new start after an alarm has been dealt with.
    pub fn restart(&mut self) {
        self.evidence = [0.0; BETS];
    }

    /// Adds what an independent tracker of the same model saw, such as another replica's. Wealth multiplies; sums of evidence add,
    /// and keep their bound for the labels of both. The source stays.
    pub fn merge(&mut self, other: &Self) {
        self.spread += other.spread;
        self.rows += other.rows;
        self.sum += other.sum;
        for (a, b) in self.above.iter_mut().zip(&other.above) {
            *a += b;
        }
        for (a, b) in self.below.iter_mut().zip(&other.below) {
            *a += b;
        }
        for (a, b) in self.evidence.iter_mut().zip(&other.evidence) {
            *a = (*a + b).min(MAX_EVIDENCE);
        }
    }

    /// Mean of the losses so far, drawn to ½ by half a loss.
    fn centre(&self) -> f64 {
        (0.5 + self.sum) / (self.rows as f64 + 1.0)
    }

    /// The predictable plug-in `√(2 ln(2/α) / (σ̂² t ln(t + 1)))`, from the losses before this one.
    fn stake(&self) -> f64 {
        let t = self.rows as f64 + 1.0;
        let variance = (0.25 + self.spread) / t;
        let stake = (2.0 * (2.0 / MISS).ln() / (variance * t * (t + 1.0).ln())).sqrt();
        stake.min(MAX_STAKE)
    }
}

/// The first point of the unit interval at which falling `wealth` no longer reaches `needed`. Between grid points it is concave, so the
/// straight line keeps to the safe side.
fn crossing(wealth: impl Iterator<Item = f64>, needed: f64) -> f64 {
    let mut last: Option<(usize, f64)> = None;
    for (i, w) in wealth.enumerate() {
        if w < needed {
            return last.map_or(0.0, |(j, v)| (j as f64 + (v - needed) / (v - w)) / GRID as f64);
        }
        last = Some((i, w));
    }
    1.0
}

impl From<RiskTracker> for Stored {
    fn from(tracker: RiskTracker) -> Self {
        Self {
            settings: tracker.settings,
            source: tracker.source,
            rows: tracker.rows,
            sum: tracker.sum,
            spread: tracker.spread,
            above: tracker.above.into(),
            below: tracker.below.into(),
            evidence: tracker.evidence,
        }
    }
}

impl TryFrom<Stored> for RiskTracker {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        for found in [stored.above.len(), stored.below.len()] {
            if found != GRID + 1 {
                return Err(format!("expected {} points of wealth, found {found}", GRID + 1));
            }
        }
        Ok(Self {
            settings: stored.settings,
            source: stored.source,
            rows: stored.rows,
            sum: stored.sum,
            spread: stored.spread,
            above: stored.above.into(),
            below: stored.below.into(),
            evidence: stored.evidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{RiskSettings, RiskTracker, SourceRisk};
    use crate::SplitMix64;

    const SOURCE: SourceRisk = SourceRisk {
        mean: 0.1,
        rows: 5000,
    };

    fn loss(rng: &mut SplitMix64, risk: f64) -> f64 {
        f64::from(u8::from(rng.uniform() < risk))
    }

    /// Labels until the alarm.
    fn delay(seed: u64, clean: usize, risk: f64, settings: RiskSettings) -> (bool, usize) {
        let mut tracker = RiskTracker::new(Some(SOURCE), settings);
        let mut rng = SplitMix64::new(seed);
        let early = (0..clean).any(|_| tracker.update(loss(&mut rng, 0.1)));
        let found = (1..=20_000).find(|_| tracker.update(loss(&mut rng, risk)));
        (early, found.unwrap_or(usize::MAX))
    }

    #[test]
    fn an_unchanged_risk_alarms_no_more_often_than_promised() {
        let settings = RiskSettings {
            false_alarm_rate: 1e-5,
            ..RiskSettings::default()
        };
        let threshold = RiskTracker::new(Some(SOURCE), settings)
            .threshold()
            .expect("known");
        let mut alarms = 0;
        for seed in 0..500 {
            let mut tracker = RiskTracker::new(Some(SOURCE), settings);
            let mut rng = SplitMix64::new(seed);
            // The worst that is allowed: exactly at the threshold.
            alarms += u32::from((0..5000).any(|_| tracker.update(loss(&mut rng, threshold))));
        }
        // T · rate = 0.05: 25 of 500 and three standard errors.
        assert!(alarms <= 40, "{alarms}");
        assert!(alarms >= 1, "the bound is not reached by doing nothing");
    }

    #[test]
    fn a_worse_risk_is_found_and_a_tolerated_one_is_not() {
        let settings = RiskSettings::default();
        for (risk, most) in [(0.2, 1200), (0.3, 250), (0.5, 80)] {
            let mut delays: Vec<usize> = (0..40)
                .map(|seed| {
                    let (early, found) = delay(seed, 3000, risk, settings);
                    assert!(!early);
                    found
                })
                .collect();
            delays.sort_unstable();
            println!("risk {risk}: median {}, worst {}", delays[20], delays[39]);
            assert!(delays[20] <= most, "{risk}: {delays:?}");
        }
        assert!((0..20).all(|seed| delay(seed, 3000, 0.115, settings).1 == usize::MAX));
    }

    #[test]
    fn the_bounds_hold_the_mean_at_every_time() {
        let mut missed = 0;
        for seed in 0..200 {
            let mut tracker = RiskTracker::new(Some(SOURCE), RiskSettings::default());
            let mut rng = SplitMix64::new(seed);
            let out = (0..2000).any(|_| {
                tracker.update(loss(&mut rng, 0.13));
                let (lower, upper) = tracker.bounds();
                assert!(lower <= upper + 1e-12);
                !(lower..=upper).contains(&0.13)
            });
            missed += u32::from(out);
        }
        // 5 % of 200 and three standard errors.
        assert!(missed <= 19, "{missed}");
        let mut tracker = RiskTracker::new(None, RiskSettings::default());
        assert_eq!(tracker.bounds(), (0.0, 1.0));
        let mut rng = SplitMix64::new(1);
        for _ in 0..2000 {
            tracker.update(0.2 * rng.uniform());
        }
        let (lower, upper) = tracker.bounds();
        assert!(
            lower > 0.08 && upper < 0.12,
            "small losses are known well: {lower} {upper}"
        );
    }

    #[test]
    fn an_unknown_source_is_learned_from_the_first_losses() {
        let mut tracker = RiskTracker::new(None, RiskSettings::default());
        let mut rng = SplitMix64::new(4);
        for _ in 0..999 {
            tracker.update(loss(&mut rng, 0.1));
        }
        assert_eq!(tracker.threshold(), None);
        tracker.update(f64::NAN);
        assert_eq!(tracker.rows(), 999);
        tracker.update(0.0);
        let source = tracker.source().expect("learned");
        assert!((source.mean - 0.1).abs() < 0.03 && source.rows == 1000);
        assert!((0..3000).any(|_| tracker.update(loss(&mut rng, 0.4))));
        tracker.restart();
        assert!(!tracker.is_alarmed());
        let hopeless = SourceRisk { mean: 1.0, rows: 10 };
        assert_eq!(
            RiskTracker::new(Some(hopeless), RiskSettings::default()).threshold(),
            None
        );
    }

    #[test]
    fn a_stored_tracker_goes_on_where_it_was_and_damage_is_refused() {
        let mut whole = RiskTracker::new(Some(SOURCE), RiskSettings::default());
        let mut rng = SplitMix64::new(9);
        let losses: Vec<f64> = (0..600).map(|_| loss(&mut rng, 0.3)).collect();
        let (first, second) = losses.split_at(250);
        for x in first {
            whole.update(*x);
        }
        let json = serde_json::to_string(&whole).expect("JSON");
        let mut restored: RiskTracker = serde_json::from_str(&json).expect("read back");
        for x in second {
            assert_eq!(restored.update(*x), whole.update(*x));
        }
        assert_eq!(restored, whole);
        let short = json.replacen("\"above\":[", "\"above\":[0.5,", 1);
        let error = serde_json::from_str::<RiskTracker>(&short)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("expected 101 points of wealth, found 102"),
            "{error}"
        );
        assert!(json.len() < 6000, "{}", json.len());
    }

    #[test]
    fn merged_trackers_know_as_much_as_both() {
        let part = |seed| {
            let mut tracker = RiskTracker::new(Some(SOURCE), RiskSettings::default());
            let mut rng = SplitMix64::new(seed);
            for _ in 0..400 {
                tracker.update(loss(&mut rng, 0.1));
            }
            tracker
        };
        let (mut a, b) = (part(1), part(2));
        let width = |t: &RiskTracker| t.bounds().1 - t.bounds().0;
        let before = width(&a);
        a.merge(&b);
        assert_eq!(a.rows(), 800);
        assert!(width(&a) < before && !a.is_alarmed());
    }
}
