//! Statistics that compare a reference with a detection window: [`binned`] over histograms, [`samples`] over values.

pub mod binned;
pub mod samples;

/// Why two windows cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// The histograms do not have the same bins.
    #[error("{reference} reference bins, {detection} detection bins")]
    BinMismatch {
        /// Bins of the reference.
        reference: usize,
        /// Bins of the detection window.
        detection: usize,
    },
    /// There is nothing to compare.
    #[error("the {side} window has no rows")]
    EmptyWindow {
        /// `reference` or `detection`.
        side: &'static str,
    },
}
