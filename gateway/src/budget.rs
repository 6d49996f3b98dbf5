//! How many extra attempts a route may make.

use std::sync::atomic::{AtomicI64, Ordering};

/// A token bucket that requests fill: each adds a percentage of a token, each extra attempt takes one. After `n`
/// requests no more than `n × percent / 100 + reserve` extra attempts were made, whatever happens.
///
/// Source: Finagle's retry budget, in linkerd and Envoy with 20 % and a floor of 3 at least. Here the floor is what the
/// bucket holds at most, so that good times do not save up for a storm in bad ones.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Hundredths of a token.
    balance: AtomicI64,
    most: i64,
}

const TOKEN: i64 = 100;

impl Budget {
    /// A full bucket that holds `reserve` tokens.
    pub(crate) fn new(reserve: u32) -> Self {
        let most = i64::from(reserve) * TOKEN;
        Self {
            balance: AtomicI64::new(most),
            most,
        }
    }

    /// A request came. `percent`: of its token that is added.
    pub(crate) fn deposit(&self, percent: u32) {
        // Racing deposits may fill it a little above the rim; the next one that finds it full adds nothing.
        if self.balance.load(Ordering::Relaxed) < self.most {
            self.balance.fetch_add(i64::from(percent), Ordering::Relaxed);
        }
    }

    /// Takes a token for one extra attempt, if there is one.
    pub(crate) fn withdraw(&self) -> bool {
        let take = |balance: i64| (balance >= TOKEN).then(|| balance - TOKEN);
        self.balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn extra_attempts_are_a_share_of_requests_and_a_few(
            percent in 0_u32..=100, reserve in 1_u32..10, wants in proptest::collection::vec(0_usize..4, 0..500),
        ) {
            let budget = Budget::new(reserve);
            let (mut requests, mut extra) = (0_u32, 0_u32);
            for want in wants {
                budget.deposit(percent);
                requests += 1;
                extra += (0..want).filter(|_| budget.withdraw()).count() as u32;
                prop_assert!(extra * 100 <= requests * percent + reserve * 100 + percent);
            }
        }
    }

    #[test]
    fn good_times_save_nothing_up() {
        let budget = Budget::new(3);
        (0..10_000).for_each(|_| budget.deposit(20));
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 3);
        (0..5).for_each(|_| budget.deposit(20));
        assert!(budget.withdraw() && !budget.withdraw());
    }
}
