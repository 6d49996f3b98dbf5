//! The states that a subject goes through, with hysteresis: what it takes to leave `stable`, and what to come back.

use serde::{Deserialize, Serialize};

use super::settings::Rules;
use crate::comparison::Effect;
use crate::report::State;

/// Windows whose mean effect counts, besides the newest alone: small effects need more rows to be sure of.
const AVERAGED: usize = 4;

/// What is known of a subject when a window closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// The evidence gate is open.
    pub(super) evidence: bool,
    /// What the window says; none when it is too small.
    pub(super) window: Option<Effect>,
    /// What the rows say since the onset of the change that the sequential test is sure of.
    pub(super) since_onset: Option<Effect>,
}

/// State of a subject, and how long it has looked like something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    pub(super) state: State,
    pub(super) episode: u64,
    pub(super) since_unix_ms: i64,
    /// The last windows' excess and error, newest last.
    recent: [Option<(f32, f32)>; AVERAGED],
    /// Windows in a row without an effect.
    calm_run: u32,
}

impl Track {
    pub(super) fn new(now_unix_ms: i64) -> Self {
        Self {
            since_unix_ms: now_unix_ms,
            ..Self::default()
        }
    }

    /// Takes a verdict, and returns the state before when it changed.
    pub(super) fn step(&mut self, verdict: Verdict, rules: &Rules, now_unix_ms: i64) -> Option<State> {
        let s = &rules.settings;
        if let Some(window) = verdict.window {
            self.recent.rotate_left(1);
            self.recent[AVERAGED - 1] = Some((window.excess as f32, window.error as f32));
            // Half of the threshold that raised it, or what chance alone makes of nothing.
            let calm = window.excess < (s.warning_effect / 2.0).max(window.null_error);
            self.calm_run = if calm { self.calm_run.saturating_add(1) } else { 0 };
        }

        // Where the evidence is there, a warning takes the effect since the onset as it is. Drift, which calls people, takes what one standard
        // error leaves of it: evidence that comes up early does so in a stretch of rows where a small change looks large.
        let lower = self.effect_at_least();
        let drifts = lower >= s.drift_effect
            || verdict
                .since_onset
                .is_some_and(|e| e.excess - e.error >= s.drift_effect);
        let warns =
            lower >= s.warning_effect || verdict.since_onset.is_some_and(|e| e.excess >= s.warning_effect);
        let next = match self.state {
            State::Stable | State::Recovered if !verdict.evidence => State::Stable,
            State::Stable | State::Recovered | State::Warning if drifts => State::Drift,
            State::Stable | State::Recovered if warns => State::Warning,
            State::Stable | State::Recovered => State::Stable,
            State::Warning | State::Drift if self.calm_run >= s.recovery_windows => State::Recovered,
            unchanged @ (State::Warning | State::Drift) => unchanged,
        };
        self.enter(next, now_unix_ms)
    }

    /// The effect that two standard errors leave no doubt of: in the newest window, or in the mean of the last ones.
    fn effect_at_least(&self) -> f64 {
        let lower = |windows: &[Option<(f32, f32)>]| {
            let known = || {
                windows
                    .iter()
                    .flatten()
                    .map(|(x, e)| (f64::from(*x), f64::from(*e)))
            };
            let n = known().count() as f64;
            let mean = known().map(|(excess, _)| excess).sum::<f64>() / n;
            let error = known().map(|(_, error)| error * error).sum::<f64>().sqrt() / n;
            mean - 2.0 * error
        };
        let (_, newest) = self.recent.split_at(AVERAGED - 1);
        lower(newest).max(lower(&self.recent))
    }

    /// Enters a state, and returns the one before when it is another. Leaving a calm state starts an episode.
    pub(super) fn enter(&mut self, next: State, now_unix_ms: i64) -> Option<State> {
        let before = self.state;
        if next == before {
            return None;
        }
        if before.level() == 0 && next.level() > 0 {
            self.episode += 1;
        }
        self.state = next;
        self.since_unix_ms = now_unix_ms;
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Rules, State, Track, Verdict};
    use crate::monitor::Settings;

    fn run(track: &mut Track, verdicts: &[(bool, f64)]) -> Vec<State> {
        let rules = Rules::new(Settings::default(), 1);
        let step = |&(evidence, excess): &(bool, f64)| {
            track.step(
                Verdict {
                    evidence,
                    window: Some(Effect {
                        excess,
                        error: 0.02,
                        null_error: 0.012,
                    }),
                    since_onset: None,
                },
                &rules,
                0,
            );
            track.state
        };
        verdicts.iter().map(step).collect()
    }

    #[test]
    fn both_gates_are_needed_to_leave_stable() {
        use State::{Drift, Stable, Warning};
        let mut track = Track::default();
        assert_eq!(run(&mut track, &[(false, 0.5), (false, -0.1)]), [Stable; 2]);
        let mut track = Track::default();
        assert_eq!(run(&mut track, &[(true, 0.01), (true, -0.02)]), [Stable; 2]);
        assert_eq!(track.episode, 0);
        // 0.05 with an error of 0.02 is above 0.02 for certain once two windows say so; 0.3 is drift at once.
        let mut track = Track::default();
        let rising = [
            (true, 0.05),
            (true, 0.05),
            (true, 0.05),
            (true, 0.05),
            (true, 0.3),
        ];
        assert_eq!(
            run(&mut track, &rising),
            [Stable, Warning, Warning, Warning, Drift]
        );
        assert_eq!(track.episode, 1, "a warning that becomes drift is one episode");
    }

    #[test]
    fn an_episode_ends_only_after_calm_windows_in_a_row() {
        use State::{Drift, Recovered, Stable};
        let mut track = Track::default();
        assert_eq!(run(&mut track, &[(true, 0.3)]), [Drift]);
        let mixed = [
            (false, 0.0),
            (false, 0.05),
            (false, 0.0),
            (false, -0.01),
            (false, 0.0),
            (true, 0.4),
        ];
        assert_eq!(
            run(&mut track, &mixed),
            [Drift, Drift, Drift, Recovered, Stable, Drift]
        );
        assert_eq!(track.episode, 2);
    }
}
