//! Why rows were not observed.

/// A closed set, so that every reason is a series from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// The observer's queue had no room.
    QueueFull,
    /// The bodies that are kept for the observer have used up their budget.
    OverBudget,
    /// The request or the answer is above the capture limit.
    TooLarge,
    /// The client left before the answer was complete.
    ClientGone,
    /// The model server gave no answer, or not all of it.
    UpstreamFailed,
    /// The answer is an error, not a prediction.
    ErrorStatus,
    /// A content or message encoding that the observer does not undo.
    Encoded,
    /// A stream whose answers cannot be told apart by request.
    Streaming,
    /// The body is not what its protocol says.
    Unparsable,
    /// Observing is switched off.
    Off,
    /// The model has no reference profile.
    NoProfile,
    /// The model's reference is being learned from it.
    Learning,
    /// No tensor of the exchange is in the profile.
    NoSubject,
    /// What observes panicked.
    Panic,
}

impl SkipReason {
    pub(crate) const ALL: [Self; 14] = [
        Self::QueueFull,
        Self::OverBudget,
        Self::TooLarge,
        Self::ClientGone,
        Self::UpstreamFailed,
        Self::ErrorStatus,
        Self::Encoded,
        Self::Streaming,
        Self::Unparsable,
        Self::Off,
        Self::NoProfile,
        Self::Learning,
        Self::NoSubject,
        Self::Panic,
    ];

    /// The value of the `reason` label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::OverBudget => "over_budget",
            Self::TooLarge => "too_large",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::ErrorStatus => "error_status",
            Self::Encoded => "encoded",
            Self::Streaming => "streaming",
            Self::Unparsable => "unparsable",
            Self::Off => "off",
            Self::NoProfile => "no_profile",
            Self::Learning => "learning",
            Self::NoSubject => "no_subject",
            Self::Panic => "panic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SkipReason;

    #[test]
    fn a_reason_is_its_own_index() {
        for (index, reason) in SkipReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
