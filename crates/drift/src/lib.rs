//! Drift mathematics: profiles, windows, statistics, sequential tests; no sockets, no clock.

mod build;
mod describe;
mod fsum;
pub mod profile;

pub use build::{SubjectBuilder, is_usable, numeric};
pub use describe::{Moments, moments, quantile};
pub use fsum::fsum;
pub use profile::{Profile, ProfileError};
