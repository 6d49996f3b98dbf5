//! Whether one rate is above another, judged as often as one likes.

/// What happened to one of two groups in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    /// How many there were.
    pub count: u64,
    /// In how many of them the event occurred; at most `count`.
    pub events: u64,
}

/// Evidence that an event is more frequent in one group, the candidate, than in another that lives at the same time, the baseline.
///
/// Of each block of trials it takes the E-variable for two Bernoulli streams of Turner, Ly & Grünwald (2024, "Generic E-variables for exact
/// sequential k-sample tests that allow for optional stopping"), with the alternative restricted to a candidate with the higher rate: its
/// expectation is at most 1 whenever the candidate's rate is not above the baseline's, whatever both are, and they may change from block to
/// block. The odds ratio is averaged over [`LOG_ODDS_RATIOS`]; the baseline's rate is the one of the blocks before. The evidence may begin with
/// every block, the t-th of them with the weight 1 / (t (t + 1)), so that a candidate that goes bad late is found although it was good for long.
/// The weights sum to 1: the probability that the evidence ever reaches 1/α is at most α for a candidate that is never worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateComparison {
    /// Blocks so far.
    blocks: u64,
    /// Of the baseline, over all blocks.
    seen: Trials,
    /// Logarithm of the evidence for each odds ratio, over all beginnings.
    log_evidence: [f64; LOG_ODDS_RATIOS.len()],
    /// Trials that came while the other group had none.
    waiting: [Trials; 2],
}

/// Logarithms of the odds ratios that evidence is gathered for.
pub const LOG_ODDS_RATIOS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// The baseline's rate before anything is known of it, as trials and events.
const PRIOR: (f64, f64) = (10.0, 0.1);

impl Default for RateComparison {
    fn default() -> Self {
        Self::new()
    }
}

impl RateComparison {
    /// A comparison with no trials yet.
    pub const fn new() -> Self {
        const NONE: Trials = Trials { count: 0, events: 0 };
        Self {
            blocks: 0,
            seen: NONE,
            log_evidence: [f64::NEG_INFINITY; LOG_ODDS_RATIOS.len()],
            waiting: [NONE; 2],
        }
    }

    /// Takes what came since the last time. How much that is must not depend on the events.
    pub fn observe(&mut self, candidate: Trials, baseline: Trials) {
        for (waiting, more) in self.waiting.iter_mut().zip([candidate, baseline]) {
            waiting.count += more.count;
            waiting.events += more.events.min(more.count);
        }
        let [candidate, baseline] = self.waiting;
        if candidate.count == 0 || baseline.count == 0 {
            return;
        }
        self.waiting = [Trials::default(); 2];
        self.blocks += 1;
        let time = self.blocks as f64;
        let beginning = -(time * (time + 1.0)).ln();
        let rate = (self.seen.events as f64 + PRIOR.1) / (self.seen.count as f64 + PRIOR.0);
        let log_odds = (rate / (1.0 - rate)).ln();
        for (evidence, ratio) in self.log_evidence.iter_mut().zip(LOG_ODDS_RATIOS) {
            let rates = [log_odds + ratio, log_odds].map(|odds| 1.0 / (1.0 + (-odds).exp()));
            *evidence = log_sum(*evidence, beginning) + log_factor([candidate, baseline], rates);
        }
        self.seen.count += baseline.count;
        self.seen.events += baseline.events;
    }

    /// log₁₀ of the evidence that the candidate's rate is above the baseline's; 2 is reached by at most 1 in 100 candidates that are not worse.
    /// −∞ before both have had a trial.
    pub fn log10_evidence(&self) -> f64 {
        let sum = self.log_evidence.into_iter().fold(f64::NEG_INFINITY, log_sum);
        (sum - (LOG_ODDS_RATIOS.len() as f64).ln()) / std::f64::consts::LN_10
    }
}

/// Logarithm of how much likelier the trials are at `rates` than at the one rate that explains those best.
fn log_factor(trials: [Trials; 2], rates: [f64; 2]) -> f64 {
    let counts = trials.map(|group| group.count as f64);
    let common = (counts[0] * rates[0] + counts[1] * rates[1]) / (counts[0] + counts[1]);
    let each = trials.iter().zip(rates).map(|(group, rate)| {
        let (events, others) = (group.events as f64, (group.count - group.events) as f64);
        events * (rate / common).ln() + others * (-rate).ln_1p() - others * (-common).ln_1p()
    });
    each.sum()
}

fn log_sum(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large == f64::NEG_INFINITY {
        return large;
    }
    large + (small - large).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SplitMix64;

    /// Trials of a rate.
    fn draw(random: &mut SplitMix64, count: u64, rate: f64) -> Trials {
        Trials {
            count,
            events: (0..count).filter(|_| random.uniform() < rate).count() as u64,
        }
    }

    fn binomial(n: u64, k: u64, p: f64) -> f64 {
        let choose = (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64);
        choose * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
    }

    #[test]
    fn a_factor_is_expected_to_be_at_most_one_for_a_candidate_that_is_not_worse() {
        let rates = [0.001, 0.03, 0.2, 0.5, 0.9, 0.999];
        for (counts, baseline) in [([1, 1], 0.01), ([1, 9], 0.3), ([6, 4], 0.05), ([3, 12], 0.7)] {
            for ratio in LOG_ODDS_RATIOS {
                let log_odds = (baseline / (1.0_f64 - baseline)).ln();
                let bet = [log_odds + ratio, log_odds].map(|odds| 1.0 / (1.0 + (-odds).exp()));
                for (i, baseline_rate) in rates.iter().enumerate() {
                    for candidate_rate in &rates[..=i] {
                        let mut expected = 0.0;
                        for a in 0..=counts[0] {
                            for b in 0..=counts[1] {
                                let chance = binomial(counts[0], a, *candidate_rate)
                                    * binomial(counts[1], b, *baseline_rate);
                                let trials = [a, b];
                                let trials = [0, 1].map(|i| Trials {
                                    count: counts[i],
                                    events: trials[i],
                                });
                                expected += chance * log_factor(trials, bet).exp();
                            }
                        }
                        assert!(
                            expected <= 1.0 + 1e-12,
                            "{expected}: {counts:?} {candidate_rate} {baseline_rate} {bet:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn candidates_that_are_not_worse_reach_one_in_alpha_at_most_so_often() {
        let mut random = SplitMix64::new(11);
        let (runs, mut alarms) = (1_500, 0);
        for run in 0..runs {
            let mut comparison = RateComparison::new();
            let mut ever = false;
            for block in 0..400 {
                // Equal rates that change with time: outages of both, and shares from 1 in 40 to a half.
                let rate = [0.002, 0.02, 0.3][(block / 50 + run) % 3];
                let counts = [(1, 39), (2, 18), (5, 5)][run % 3];
                comparison.observe(
                    draw(&mut random, counts.0, rate),
                    draw(&mut random, counts.1, rate),
                );
                ever |= comparison.log10_evidence() >= 20.0_f64.log10();
            }
            alarms += usize::from(ever);
        }
        // α = 0.05.
        assert!(alarms <= runs / 20, "{alarms} of {runs}");
    }

    #[test]
    fn a_candidate_that_breaks_late_is_found_by_its_first_errors() {
        let mut random = SplitMix64::new(5);
        let mut comparison = RateComparison::new();
        for _ in 0..36_000 {
            comparison.observe(draw(&mut random, 1, 0.01), draw(&mut random, 19, 0.01));
        }
        assert!(
            comparison.log10_evidence() < 0.0,
            "{}",
            comparison.log10_evidence()
        );
        let broken = Trials { count: 1, events: 1 };
        let needed = (1..100).find(|_| {
            comparison.observe(broken, draw(&mut random, 19, 0.01));
            comparison.log10_evidence() >= 3.0
        });
        assert_eq!(needed, Some(9));
    }

    #[test]
    fn trials_wait_until_the_other_group_has_some() {
        let mut apart = RateComparison::new();
        for _ in 0..3 {
            apart.observe(Trials::default(), Trials { count: 7, events: 1 });
        }
        assert_eq!(apart.log10_evidence(), f64::NEG_INFINITY);
        apart.observe(Trials { count: 2, events: 2 }, Trials::default());
        let mut together = RateComparison::new();
        together.observe(Trials { count: 2, events: 2 }, Trials { count: 21, events: 3 });
        assert_eq!(apart, together);
    }
}
