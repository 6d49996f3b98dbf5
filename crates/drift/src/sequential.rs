//! Detectors that take one value at a time.
//!
//! [`ConformalDetector`] has a proved bound on false alarms and sees any change of the distribution; it is what the monitor alarms by. The
//! others are fast and well known, with false alarms that depend on the data: for latency, error rate and confidence. [`RiskTracker`] has a
//! bound of the same kind for the loss that labels show.

mod adwin;
mod conformal;
mod control;
mod page_hinkley;
mod rates;
mod risk;

pub use adwin::{Adwin, AdwinSettings};
pub use conformal::{Bets, ConformalDetector, Onset};
pub use control::{Cusum, Ewma};
pub use page_hinkley::{PageHinkley, PageHinkleySettings};
pub use rates::{LOG_ODDS_RATIOS, RateComparison, Trials};
pub use risk::{RiskSettings, RiskTracker, SourceRisk};
