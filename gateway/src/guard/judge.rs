//! Whether a canary is worse than the stable revision.

use plumbline_drift::report::{CanaryCause, RevisionSeen};
use plumbline_drift::sequential::{RateComparison, Trials};

use crate::config::GuardSpec;
use crate::protection::{Counts, LATENCY_BUCKETS, upper_bound};

/// Of so many canaries that are not worse, at most one is ever stopped; half of that for each thing that is compared.
const ONE_FALSE_STOP_IN: f64 = 1_000.0;
/// What came so many looks ago counts half in what is called of late.
const HALF_LIFE: f64 = 60.0;
/// The percentile of latency that must be longer.
const TAIL: f64 = 0.95;

/// What was seen of a canary and of the stable revision, at the same times.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    last: [Counts; 2],
    /// Answers that are no success.
    errors: RateComparison,
    /// Answers slower than the bound of each bucket. The evidence is the mean over all: whatever part of the latencies is longer shows in some.
    slower: Box<[RateComparison]>,
    recent: [Recent; 2],
}

/// A worse canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) cause: CanaryCause,
    pub(super) log10_evidence: f64,
}

impl Judge {
    /// Begins with what has been counted already as known.
    pub(super) fn new(counts: [Counts; 2]) -> Self {
        Self {
            last: counts,
            errors: RateComparison::new(),
            slower: [RateComparison::new(); LATENCY_BUCKETS - 1].into(),
            recent: [Recent::default(), Recent::default()],
        }
    }

    /// Takes what has been counted by now: the canary's, then the stable revision's.
    pub(super) fn look(&mut self, counts: [Counts; 2]) {
        let [canary, stable] = [0, 1].map(|i| counts[i].since(&self.last[i]));
        let failures = |new: &Counts| Trials {
            count: new.answers,
            events: new.failures,
        };
        self.errors.observe(failures(&canary), failures(&stable));
        let [of_canary, of_stable] = [&canary, &stable].map(|new| slower_than(&new.latency));
        for (bound, comparison) in self.slower.iter_mut().enumerate() {
            comparison.observe(of_canary[bound], of_stable[bound]);
        }
        for (recent, new) in self.recent.iter_mut().zip([&canary, &stable]) {
            recent.add(new);
        }
        self.last = counts;
    }

    /// In what the canary is worse beyond doubt and by more than it may be.
    pub(super) fn verdict(&self, spec: &GuardSpec) -> Option<Verdict> {
        let enough = (2.0 * ONE_FALSE_STOP_IN).log10();
        let [canary, stable] = &self.recent;
        let more_fail = canary.failed() - stable.failed() >= spec.errors.fraction();
        let longer = canary.tail_ms() >= stable.tail_ms() * (1.0 + spec.slower.fraction());
        [
            (CanaryCause::Errors, more_fail, self.errors.log10_evidence()),
            (CanaryCause::Latency, longer, mean_log10(&self.slower)),
        ]
        .into_iter()
        .find(|(_, matters, evidence)| *matters && *evidence >= enough)
        .map(|(cause, _, log10_evidence)| Verdict {
            cause,
            log10_evidence,
        })
    }

    /// How the canary was of late, and the stable revision.
    pub(super) fn seen(&self, names: [&str; 2]) -> [RevisionSeen; 2] {
        [0, 1].map(|i| {
            let recent = &self.recent[i];
            RevisionSeen {
                revision: names[i].to_owned(),
                answers: recent.answers.round() as u64,
                failed: recent.failed(),
                p95_ms: Some(recent.tail_ms()).filter(|tail| *tail > 0.0),
                drift: None,
            }
        })
    }
}

/// Of each bound, answers in all and those above it.
fn slower_than(latency: &[u64; LATENCY_BUCKETS]) -> [Trials; LATENCY_BUCKETS - 1] {
    let count: u64 = latency.iter().sum();
    let mut events = count;
    std::array::from_fn(|bucket| {
        events -= latency[bucket];
        Trials { count, events }
    })
}

fn mean_log10(comparisons: &[RateComparison]) -> f64 {
    let each = || comparisons.iter().map(RateComparison::log10_evidence);
    let highest = each().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    let sum: f64 = each().map(|evidence| 10_f64.powf(evidence - highest)).sum();
    highest + (sum / comparisons.len() as f64).log10()
}

/// Counts in which older ones fade.
#[derive(Clone, Debug)]
struct Recent {
    answers: f64,
    failures: f64,
    latency: [f64; LATENCY_BUCKETS],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            answers: 0.0,
            failures: 0.0,
            latency: [0.0; LATENCY_BUCKETS],
        }
    }
}

impl Recent {
    fn add(&mut self, new: &Counts) {
        let fade = (-1.0 / HALF_LIFE).exp2();
        let add = |sum: &mut f64, new: u64| *sum = *sum * fade + new as f64;
        add(&mut self.answers, new.answers);
        add(&mut self.failures, new.failures);
        for (sum, new) in self.latency.iter_mut().zip(new.latency) {
            add(sum, new);
        }
    }

    /// The share that failed; 0 without answers.
    fn failed(&self) -> f64 {
        if self.answers > 0.0 {
            self.failures / self.answers
        } else {
            0.0
        }
    }

    /// The [`TAIL`] of the latency in milliseconds, to 19 %; 0 without answers.
    fn tail_ms(&self) -> f64 {
        let mut left = self.latency.iter().sum::<f64>() * TAIL;
        if left <= 0.0 {
            return 0.0;
        }
        let bucket = self.latency.iter().position(|count| {
            left -= count;
            left <= 0.0
        });
        upper_bound(bucket.unwrap_or(LATENCY_BUCKETS - 1)).as_secs_f64() * 1e3
    }
}

impl Counts {
    /// What has come since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            answers: self.answers.saturating_sub(earlier.answers),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: std::array::from_fn(|i| self.latency[i].saturating_sub(earlier.latency[i])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protection::bucket;

    /// What a revision has done by a time.
    struct Revision {
        counts: Counts,
        random: fastrand::Rng,
    }

    impl Revision {
        fn new(seed: u64) -> Self {
            Self {
                counts: Counts::default(),
                random: fastrand::Rng::with_seed(seed),
            }
        }

        /// Answers of which a share fails, with exponential latencies of a mean.
        fn answer(&mut self, count: u64, failing: f64, mean_ms: f64) {
            for _ in 0..count {
                self.counts.answers += 1;
                self.counts.failures += u64::from(self.random.f64() < failing);
                let latency = -mean_ms * (1.0 - self.random.f64()).ln();
                self.counts.latency[bucket(Duration::from_secs_f64(latency / 1e3))] += 1;
            }
        }
    }

    /// Seconds until the verdict, at 5 requests a second of which one is the canary's: after an hour like the stable revision.
    fn found(seed: u64, failing: f64, mean_ms: f64) -> Option<(u64, CanaryCause)> {
        let (mut canary, mut stable) = (Revision::new(seed), Revision::new(seed + 1_000));
        let spec = GuardSpec::new("stable");
        let mut judge = Judge::new([canary.counts.clone(), stable.counts.clone()]);
        for second in 0_u64..7_200 {
            let (failing, mean_ms) = if second < 3_600 {
                (0.01, 20.0)
            } else {
                (failing, mean_ms)
            };
            canary.answer(1, failing, mean_ms);
            stable.answer(4, 0.01, 20.0);
            judge.look([canary.counts.clone(), stable.counts.clone()]);
            if let Some(verdict) = judge.verdict(&spec) {
                return Some((second.saturating_sub(3_600), verdict.cause));
            }
        }
        None
    }

    #[test]
    fn a_canary_like_the_stable_revision_keeps_its_traffic() {
        for seed in 0..8 {
            assert_eq!(found(seed, 0.01, 20.0), None, "{seed}");
        }
    }

    #[test]
    fn a_canary_that_fails_or_slows_down_is_found_and_why() {
        for seed in 0..3 {
            let (seconds, cause) = found(seed, 1.0, 20.0).expect("all of its answers fail");
            assert!(
                seconds <= 12 && cause == CanaryCause::Errors,
                "{seconds} s, {cause:?}"
            );
            let (seconds, cause) = found(seed, 0.15, 20.0).expect("15 % fail");
            assert!(
                seconds <= 500 && cause == CanaryCause::Errors,
                "{seconds} s, {cause:?}"
            );
            let (seconds, cause) = found(seed, 0.01, 100.0).expect("five times as slow");
            assert!(
                seconds <= 120 && cause == CanaryCause::Latency,
                "{seconds} s, {cause:?}"
            );
        }
    }

    #[test]
    fn what_is_worse_by_less_than_it_may_be_is_no_verdict() {
        let (mut canary, mut stable) = (Revision::new(1), Revision::new(2));
        let mut judge = Judge::new([canary.counts.clone(), stable.counts.clone()]);
        for _ in 0..600 {
            canary.answer(1_000, 0.006, 22.0);
            stable.answer(1_000, 0.001, 20.0);
            judge.look([canary.counts.clone(), stable.counts.clone()]);
        }
        let spec = GuardSpec::new("stable");
        assert_eq!(judge.verdict(&spec), None);
        let strict = GuardSpec {
            errors: crate::config::Share::of_millionths(1_000),
            ..spec
        };
        let verdict = judge.verdict(&strict).expect("beyond doubt");
        assert_eq!(verdict.cause, CanaryCause::Errors);
        let [seen, _] = judge.seen(["canary", "stable"]);
        assert!((0.005..0.007).contains(&seen.failed), "{seen:?}");
    }
}
