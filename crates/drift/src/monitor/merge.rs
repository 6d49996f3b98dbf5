//! One monitor from those of several replicas of a model.

use std::cmp::Reverse;

use super::Monitor;
use super::track::Track;

/// Why two monitors do not merge.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("monitor of the profile {found}, expected {expected}")]
pub struct MergeError {
    /// Digest of the other one's profile.
    pub found: String,
    /// Digest of this one's.
    pub expected: String,
}

impl Monitor {
    /// Takes in everything that the monitor of another replica saw: in any order and grouping, as if this one had seen all rows.
    ///
    /// Counts add up exactly, moments but for rounding. Of evidence and states the worse counts: replicas share the reference, so their evidence
    /// must not be multiplied, and the highest keeps the budget for the rows of all (see
    /// [`ConformalDetector::merge`](crate::sequential::ConformalDetector::merge)).
    ///
    /// # Errors
    /// [`MergeError`] for a monitor of another profile; nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.profile_digest != other.profile_digest {
            return Err(MergeError {
                found: other.profile_digest(),
                expected: self.profile_digest(),
            });
        }
        for (subject, other) in self.subjects.iter_mut().zip(&other.subjects) {
            subject.merge(other);
        }
        self.track.merge(&other.track);
        self.rows += other.rows;
        self.window_rows += other.window_rows;
        self.window_index = self.window_index.max(other.window_index);
        self.window_opened_unix_ms = self.window_opened_unix_ms.min(other.window_opened_unix_ms);
        Ok(())
    }
}

impl Track {
    /// Becomes the worse of the two; of equals the one that has been so for longer.
    pub(super) fn merge(&mut self, other: &Self) {
        let episode = self.episode.max(other.episode);
        let order = |track: &Self| (track.state.level(), Reverse(track.since_unix_ms), track.episode);
        if order(other) > order(self) {
            *self = *other;
        }
        self.episode = episode;
    }
}
