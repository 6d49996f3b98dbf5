//! Fits a log into a token budget, for a reader who cannot have all of it.
//!
//! A [`Line`] knows its time and its [`Mark`]: what its words say about it. A [`Fitter`] takes lines one by one, counts
//! what they have in common (`template`), weighs each beside the others (`weigh`), and keeps those that tell most
//! (`select`). Deterministic, linear in the log, bounded in memory. Nothing is summarised: lines are kept as they are
//! with their numbers, and what was left out is said, so that a wrong conclusion can be traced to a missing line.

mod baseline;
mod fitter;
mod line;
mod marks;
mod select;
mod template;
pub mod text;
mod weigh;

pub use baseline::Baseline;
pub use fitter::{Fitted, Fitter};
pub use line::Line;
pub use marks::Mark;
