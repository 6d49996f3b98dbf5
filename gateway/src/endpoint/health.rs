//! Whether an endpoint is in use, and how one that was put out comes back.
//!
//! This file is also compiled into `tests/loom_probe.rs`, where loom's atomics take the place of the standard ones.

use super::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const SECOND: u64 = 1_000_000_000;
/// How long an endpoint is put out the first time; doubled with each probe that fails, up to 4 s. A quarter more or
/// less by chance, so that gateways do not probe in step: at most 5 s. linkerd has 1 s to 60 s and Envoy 30 s to
/// 300 s; a probe costs one request, and a pod that restarts is back within seconds.
const FIRST_OUT: u64 = SECOND;
const MAX_DOUBLINGS: u32 = 2;
/// Failures in a row after which an endpoint is suspect. Source: Envoy's `consecutive_5xx`; linkerd has 7.
const CONSECUTIVE_FAILURES: u32 = 5;
/// An endpoint is suspect when fewer than 4 of 5 answers of the window were good. Source: linkerd's 0.8 over 10 s.
const MIN_SUCCESSES_OF_5: u64 = 4;
/// Answers in the window before its rate says anything: with fewer, chance alone makes a good endpoint look bad.
const MIN_ANSWERS: u64 = 20;
/// Half the window over which successes are counted.
const HALF_WINDOW: u64 = 5 * SECOND;

/// How an endpoint stands. All times are nanoseconds of the owner's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    InUse,
    /// Not to be used before its time, or until the probe under way has ended.
    Out,
    /// One request may find out whether it is well again.
    ProbeDue,
}

/// Why an endpoint was put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It could not be connected to.
    Unreachable,
    /// It failed more than its peers.
    Failing,
}

/// What a failure means for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    None,
    /// It crossed a threshold: to be put out if its peers do better.
    Suspect,
    /// It was the probe of an endpoint that is out already: out for longer.
    ProbeFailed,
}

/// Health without a lock. The path of a good answer at a healthy endpoint is two loads and one exchange.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// When a probe is due; 0 while in use.
    until: AtomicU64,
    out_since: AtomicU64,
    unreachable: AtomicBool,
    /// How often in a row it was put out.
    times: AtomicU32,
    /// One request is finding out.
    probing: AtomicBool,
    consecutive: AtomicU32,
    /// Two halves of the window, by turns.
    halves: [AtomicU64; 2],
    /// When its share of the requests began to grow.
    ramp_since: AtomicU64,
}

impl Health {
    /// An endpoint that was first seen at 0.
    pub(crate) fn standing(&self, now: u64) -> Standing {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 {
            Standing::InUse
        } else if now < until || self.probing.load(Ordering::Acquire) {
            Standing::Out
        } else {
            Standing::ProbeDue
        }
    }

    /// When a probe is due, while it is out.
    pub(crate) fn out_until(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then_some(until)
    }

    pub(crate) fn cause(&self) -> Cause {
        if self.unreachable.load(Ordering::Relaxed) {
            Cause::Unreachable
        } else {
            Cause::Failing
        }
    }

    /// Takes the one place of a probe. To be given back with [`Self::probe_ended`] after the outcome was told.
    pub(crate) fn claim_probe(&self, now: u64) -> bool {
        let claimed = self
            .probing
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !claimed {
            return false;
        }
        // Another probe may have ended since this one was seen to be due.
        let until = self.until.load(Ordering::Acquire);
        let due = until != 0 && now >= until;
        if !due {
            self.probe_ended();
        }
        due
    }

    pub(crate) fn probe_ended(&self) {
        self.probing.store(false, Ordering::Release);
    }

    /// A request that began at `began` was answered well. True when that brings the endpoint back into use.
    pub(crate) fn succeeded(&self, began: u64, now: u64) -> bool {
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        self.count(now, 0);
        // What was under way when it was put out says nothing new.
        let until = self.until.load(Ordering::Acquire);
        if until == 0 || began < self.out_since.load(Ordering::Acquire) {
            return false;
        }
        let back = self
            .until
            .compare_exchange(until, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if back {
            self.times.store(0, Ordering::Relaxed);
            self.ramp_since.store(now, Ordering::Relaxed);
            // The window is of the time before.
            for half in &self.halves {
                half.store(0, Ordering::Relaxed);
            }
        }
        back
    }

    /// A request that began at `began` failed.
    pub(crate) fn failed(&self, began: u64, now: u64) -> Suspicion {
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        self.count(now, 1);
        if self.until.load(Ordering::Acquire) != 0 {
            return if began >= self.out_since.load(Ordering::Acquire) {
                Suspicion::ProbeFailed
            } else {
                Suspicion::None
            };
        }
        let (answers, failures) = self.answers_and_failures(now);
        let often = answers >= MIN_ANSWERS && (answers - failures) * 5 < answers * MIN_SUCCESSES_OF_5;
        if consecutive.is_multiple_of(CONSECUTIVE_FAILURES) || often {
            Suspicion::Suspect
        } else {
            Suspicion::None
        }
    }

    /// Puts the endpoint out, for `jitter` (0.75 to 1.25) times the time that is due, unless a request that began at
    /// `began` knows nothing of the last time. The time it is out, when it is.
    pub(crate) fn put_out(&self, cause: Cause, began: u64, now: u64, jitter: f64) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        if until != 0 && began < self.out_since.load(Ordering::Acquire) {
            return None;
        }
        let doublings = self.times.load(Ordering::Relaxed).min(MAX_DOUBLINGS);
        let out = ((FIRST_OUT << doublings) as f64 * jitter) as u64;
        // Of requests that fail together, one counts.
        self.until
            .compare_exchange(
                until,
                now.saturating_add(out).max(1),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .ok()?;
        self.out_since.store(now, Ordering::Release);
        self.unreachable
            .store(cause == Cause::Unreachable, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
        Some(out)
    }

    /// The part of its share that it gets `now`: from a tenth to 1 within `window` after it was new or came back.
    pub(crate) fn ramp(&self, now: u64, window: u64) -> f64 {
        let elapsed = now.saturating_sub(self.ramp_since.load(Ordering::Relaxed));
        if elapsed >= window {
            return 1.0;
        }
        (elapsed as f64 / window as f64).max(LEAST_SHARE)
    }

    /// The share of the window's answers that were failures, 0 without any; 1 when the last ones all were.
    pub(crate) fn failure_rate(&self, now: u64) -> f64 {
        if self.consecutive.load(Ordering::Relaxed) >= CONSECUTIVE_FAILURES {
            return 1.0;
        }
        let (answers, failures) = self.answers_and_failures(now);
        failures as f64 / answers.max(1) as f64
    }

    /// Answers of the window, and how many of them were failures.
    fn answers_and_failures(&self, now: u64) -> (u64, u64) {
        let epoch = epoch(now);
        let mut sum = (0, 0);
        for half in &self.halves {
            let half = Half::of(half.load(Ordering::Relaxed));
            if epoch.wrapping_sub(half.epoch) <= 1 {
                sum = (sum.0 + half.answers, sum.1 + half.failures);
            }
        }
        sum
    }

    fn count(&self, now: u64, failures: u64) {
        let epoch = epoch(now);
        let slot = &self.halves[(epoch % 2) as usize];
        let mut before = slot.load(Ordering::Relaxed);
        loop {
            let mut half = Half::of(before);
            if half.epoch != epoch {
                half = Half {
                    epoch,
                    answers: 0,
                    failures: 0,
                };
            }
            half.answers += 1;
            half.failures += failures;
            if half.answers > Half::MOST {
                // Halved together, the rate stays.
                half.answers /= 2;
                half.failures /= 2;
            }
            match slot.compare_exchange_weak(before, half.bits(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }
}

/// A new endpoint starts with a tenth of its share. Source: Envoy's `min_weight_percent`.
const LEAST_SHARE: f64 = 0.1;

/// Which half window a time is in; never 0, which stands for nothing counted.
fn epoch(now: u64) -> u64 {
    (now / HALF_WINDOW + 2) & Half::EPOCHS
}

/// A half window in one word: 24 bits of its epoch, 20 of answers, 20 of failures.
struct Half {
    epoch: u64,
    answers: u64,
    failures: u64,
}

impl Half {
    const MOST: u64 = (1 << 20) - 1;
    const EPOCHS: u64 = (1 << 24) - 1;

    fn of(bits: u64) -> Self {
        Self {
            epoch: bits >> 40,
            answers: bits >> 20 & Self::MOST,
            failures: bits & Self::MOST,
        }
    }

    fn bits(&self) -> u64 {
        self.epoch << 40 | self.answers << 20 | self.failures
    }
}
