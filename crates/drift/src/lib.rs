//! Drift mathematics: profiles, windows, statistics, sequential tests; no sockets, no clock.

mod build;
mod describe;
mod fsum;
pub mod profile;
mod rng;
pub mod sequential;
pub mod special;
pub mod stats;

pub use build::{SubjectBuilder, is_usable, numeric};
pub use describe::{Moments, moments, moments_about, quantile};
pub use fsum::fsum;
pub use profile::{Profile, ProfileError};
pub use rng::SplitMix64;
