//! Whether an intervention has helped.

use super::{FollowOutcome, Patience};
use crate::store::Watched;

/// Why an intervention is no longer watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The signal ended after it and stayed away.
    Recovered,
    /// Something else was done before the signal ended: that has the credit.
    Followed,
    /// The signal still fires.
    InVain,
}

impl Judgement {
    pub(super) const fn outcome(self) -> FollowOutcome {
        match self {
            Self::Recovered => FollowOutcome::Recovered,
            Self::Followed | Self::InVain => FollowOutcome::Persisted,
        }
    }
}

/// Nothing while it is too early to say. Times are milliseconds since 1970.
pub(super) fn judge(watched: &Watched, patience: Patience, now: i64) -> Option<Judgement> {
    let (settle, give_up) = (
        patience.settle.as_millis() as i64,
        patience.give_up.as_millis() as i64,
    );
    match watched.resolved_at {
        Some(resolved) if now - resolved >= settle => {
            let later = watched.next_at.is_some_and(|next| next <= resolved);
            Some(if later {
                Judgement::Followed
            } else {
                Judgement::Recovered
            })
        }
        None if now - watched.at >= give_up => Some(Judgement::InVain),
        // Over since a moment ago, it is given the time to settle.
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: i64 = 60_000;
    const PATIENCE: Patience = Patience {
        settle: Duration::from_mins(10),
        give_up: Duration::from_hours(24),
    };

    fn watched(resolved_at: Option<i64>, next_at: Option<i64>) -> Watched {
        Watched {
            id: 1,
            incident: "i".to_owned(),
            kind: "rollback".to_owned(),
            model: None,
            at: 100 * MINUTE,
            resolved_at: resolved_at.map(|at| at * MINUTE),
            next_at: next_at.map(|at| at * MINUTE),
        }
    }

    #[test]
    fn a_signal_has_to_stay_away_for_a_recovery() {
        let judged = |resolved, next, minute| judge(&watched(resolved, next), PATIENCE, minute * MINUTE);
        assert_eq!(judged(None, None, 101), None);
        assert_eq!(judged(Some(110), None, 119), None);
        assert_eq!(judged(Some(110), None, 120), Some(Judgement::Recovered));
        assert_eq!(judged(None, None, 100 + 24 * 60 - 1), None);
        assert_eq!(judged(None, None, 100 + 24 * 60), Some(Judgement::InVain));
    }

    #[test]
    fn the_last_intervention_before_the_end_has_the_credit() {
        let judged = |next| judge(&watched(Some(110), next), PATIENCE, 130 * MINUTE);
        assert_eq!(judged(Some(105)), Some(Judgement::Followed));
        assert_eq!(
            judged(Some(115)),
            Some(Judgement::Recovered),
            "it was over by then"
        );
    }
}
