//! How much a provider may still be asked, and until when it may not: kept in the store, so that a restart forgets
//! nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProviderError;
use crate::config::Limits;
use crate::signal::{now, rfc3339};
use crate::store::Store;

/// Name of the state in the store.
const NAME: &str = "provider";
const HOUR: i64 = 3_600_000;
/// Hours of a day.
const DAY: i64 = 24;
/// Failures in a row after which nobody asks for a while.
const MAX_FAILURES: u32 = 3;
/// The first while; doubled with each further failure.
const FIRST_BREAK: i64 = 30_000;
const LONGEST_BREAK: i64 = 15 * 60_000;
/// When quotas of a day are renewed: midnight in California, in summer an hour earlier. Milliseconds into a UTC day.
const RENEWAL: i64 = 8 * HOUR;

/// Counts and pauses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// By hour since 1970; the last 24 are kept.
    hours: BTreeMap<i64, Used>,
    paused: Option<Pause>,
    /// Requests in a row that were not answered.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    requests: u64,
    tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pause {
    until: i64,
    reason: String,
}

/// Where the state is. Cloned freely; every clone has the same.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    limits: Limits,
    keeper: Keeper,
}

#[derive(Clone, Debug)]
enum Keeper {
    Store(Store),
    /// For commands that run once.
    Memory(Arc<Mutex<State>>),
}

/// What was taken for a request that is not answered yet.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Reservation {
    hour: i64,
    tokens: u64,
}

impl Ledger {
    pub(super) fn new(limits: Limits, store: Option<Store>) -> Self {
        Self {
            limits,
            keeper: store.map_or_else(|| Keeper::Memory(Arc::default()), Keeper::Store),
        }
    }

    /// Takes one request of so many tokens.
    ///
    /// # Errors
    /// [`ProviderError::Paused`] or [`ProviderError::Budget`]; also when it cannot be noted, for then nobody counts.
    pub(super) async fn reserve(&self, tokens: u64) -> Result<Reservation, ProviderError> {
        let limits = self.limits;
        self.change(move |state| state.reserve(now(), limits, tokens))
            .await
            .unwrap_or_else(|error| Err(ProviderError::Budget(error)))
    }

    /// Notes what a request came to in the end.
    pub(super) async fn settle(&self, reservation: Reservation, tokens: u64) {
        self.note(move |state| state.settle(reservation, tokens)).await;
    }

    /// Nobody asks for so long.
    pub(super) async fn pause(&self, wait: Duration, reason: String) {
        let until = now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 4);
        tracing::error!(
            until = rfc3339(until),
            error = reason,
            "the provider is not asked for a while"
        );
        self.note(move |state| state.paused = Some(Pause { until, reason }))
            .await;
    }

    /// Nobody asks until quotas of a day are renewed.
    pub(super) async fn pause_until_renewal(&self, reason: String) {
        let left = u64::try_from(until_renewal(now())).unwrap_or(0);
        self.pause(Duration::from_millis(left), reason).await;
    }

    /// Counts a request that was not answered; after several nobody asks for a while.
    pub(super) async fn failed(&self, reason: String) {
        self.note(move |state| state.failed(now(), reason)).await;
    }

    pub(super) async fn worked(&self) {
        self.note(|state| state.failures = 0).await;
    }

    async fn note(&self, change: impl FnOnce(&mut State) + Send + 'static) {
        if let Err(error) = self.change(change).await {
            tracing::warn!(error, "what the provider was asked cannot be noted");
        }
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, String> {
        match &self.keeper {
            Keeper::Store(store) => store
                .change_state(NAME, change)
                .await
                .map_err(|error| plumbline_service::error_chain(&error)),
            Keeper::Memory(state) => Ok(change(&mut state.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }
}

impl State {
    fn reserve(&mut self, now: i64, limits: Limits, tokens: u64) -> Result<Reservation, ProviderError> {
        if let Some(pause) = &self.paused {
            if pause.until > now {
                let left = Duration::from_millis((pause.until - now).unsigned_abs());
                return Err(ProviderError::Paused(left, pause.reason.clone()));
            }
            self.paused = None;
        }
        let hour = now.div_euclid(HOUR);
        self.hours
            .retain(|then, _| (hour - DAY + 1..=hour).contains(then));
        let used = self.hours.get(&hour).copied().unwrap_or_default();
        let day = self.hours.values().fold(Used::default(), |sum, used| Used {
            requests: sum.requests + used.requests,
            tokens: sum.tokens + used.tokens,
        });
        for (used, more, limit, what) in [
            (used.requests, 1, limits.requests_per_hour, "requests per hour"),
            (day.requests, 1, limits.requests_per_day, "requests per day"),
            (used.tokens, tokens, limits.tokens_per_hour, "tokens per hour"),
            (day.tokens, tokens, limits.tokens_per_day, "tokens per day"),
        ] {
            if used.saturating_add(more) > limit.get() {
                return Err(ProviderError::Budget(format!(
                    "{used} of {limit} {what} are used"
                )));
            }
        }
        let entry = self.hours.entry(hour).or_default();
        entry.requests += 1;
        entry.tokens += tokens;
        Ok(Reservation { hour, tokens })
    }

    fn settle(&mut self, reservation: Reservation, tokens: u64) {
        if let Some(used) = self.hours.get_mut(&reservation.hour) {
            used.tokens = used
                .tokens
                .saturating_sub(reservation.tokens)
                .saturating_add(tokens);
        }
    }

    fn failed(&mut self, now: i64, reason: String) {
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(MAX_FAILURES) {
            let wait = (FIRST_BREAK << over.min(10)).min(LONGEST_BREAK);
            let until = now + wait;
            self.paused = Some(Pause { until, reason });
        }
    }
}

/// Milliseconds until quotas of a day are renewed.
fn until_renewal(now: i64) -> i64 {
    let day = 24 * HOUR;
    (RENEWAL - now.rem_euclid(day) + day - 1).rem_euclid(day) + 1
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn limits(requests: u64, tokens: u64) -> Limits {
        let of = |limit| NonZeroU64::new(limit).expect("above 0");
        Limits {
            requests_per_hour: of(requests),
            requests_per_day: of(requests * 2),
            tokens_per_hour: of(tokens),
            tokens_per_day: of(tokens * 2),
        }
    }

    fn problem(result: Result<Reservation, ProviderError>) -> String {
        result.expect_err("over the budget").to_string()
    }

    #[test]
    fn no_request_goes_over_the_hour_or_the_day() {
        let (mut state, limits) = (State::default(), limits(2, 1_000));
        let mut ask = |hour: i64, tokens| state.reserve(hour * HOUR, limits, tokens);
        assert!(ask(100, 600).is_ok());
        assert!(problem(ask(100, 600)).contains("600 of 1000 tokens per hour"));
        assert!(ask(100, 400).is_ok());
        assert!(problem(ask(100, 0)).contains("2 of 2 requests per hour"));
        assert!(ask(110, 900).is_ok());
        assert!(problem(ask(120, 200)).contains("1900 of 2000 tokens per day"));
        assert!(ask(120, 100).is_ok());
        assert!(problem(ask(123, 0)).contains("4 of 4 requests per day"));
        // A day after the first ones.
        assert!(ask(124, 900).is_ok());
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let (mut state, limits) = (State::default(), limits(9, 1_000));
        let taken = state.reserve(0, limits, 900).expect("within");
        assert!(state.reserve(0, limits, 200).is_err());
        state.settle(taken, 100);
        assert!(state.reserve(0, limits, 900).is_ok());
    }

    #[test]
    fn failures_in_a_row_pause_longer_and_longer() {
        let (mut state, limits) = (State::default(), limits(99, 1_000));
        for _ in 0..MAX_FAILURES - 1 {
            state.failed(0, "down".to_owned());
            assert!(state.reserve(0, limits, 0).is_ok());
        }
        state.failed(0, "down".to_owned());
        assert!(problem(state.reserve(FIRST_BREAK - 1, limits, 0)).contains("down"));
        assert!(state.reserve(FIRST_BREAK, limits, 0).is_ok(), "one may try");
        state.failed(FIRST_BREAK, "down".to_owned());
        assert!(state.reserve(FIRST_BREAK * 3 - 1, limits, 0).is_err());
        for _ in 0..100 {
            state.failed(0, "down".to_owned());
        }
        assert_eq!(
            state.paused.as_ref().map(|pause| pause.until),
            Some(LONGEST_BREAK)
        );
    }

    #[test]
    fn quotas_of_a_day_are_renewed_in_the_night_of_california() {
        assert_eq!(until_renewal(0), RENEWAL);
        assert_eq!(until_renewal(RENEWAL), 24 * HOUR);
        assert_eq!(until_renewal(RENEWAL - 1), 1);
        assert_eq!(until_renewal(20 * HOUR), 12 * HOUR);
    }
}
