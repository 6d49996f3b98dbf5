//! How soon somebody has to act, from the signals alone.

use crate::drift::{Drift, Role, State};
use crate::report::Urgency;

/// Effect from which a drifted feature is a large change; 0.25 is the customary "major shift" of the PSI.
const LARGE_EFFECT: f64 = 0.25;

/// P0: an input changed a lot and the predictions changed with it. P1: drift. P2: a warning.
pub(crate) fn of_drift(drift: &Drift) -> Urgency {
    let drifts = |role: Role| {
        drift
            .subjects
            .iter()
            .filter(move |subject| subject.role == role && subject.state == State::Drift)
    };
    let large = drifts(Role::Feature).any(|feature| feature.strength() >= LARGE_EFFECT);
    match drift.state {
        State::Drift if large && drifts(Role::Output).next().is_some() => Urgency::P0,
        State::Drift => Urgency::P1,
        State::Warning | State::Stable => Urgency::P2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::contract_shift;

    #[test]
    fn predictions_that_move_with_a_large_shift_are_urgent() {
        let mut drift = contract_shift();
        assert_eq!(of_drift(&drift), Urgency::P0);
        drift.subjects.retain(|subject| subject.role == Role::Feature);
        assert_eq!(of_drift(&drift), Urgency::P1);
        drift.state = State::Warning;
        assert_eq!(of_drift(&drift), Urgency::P2);
    }
}
