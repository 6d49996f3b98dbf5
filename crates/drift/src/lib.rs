//! Drift mathematics: profiles, windows, statistics, sequential tests; no sockets, no clock.
//!
//! A [`Profile`] says what the rows of training looked like; [`SubjectBuilder`] makes its parts. A [`monitor::Monitor`] compares
//! the rows of a served model with it, by the statistics of [`stats`] and the detectors of [`sequential`], and tells what it finds as
//! a [`report::DriftReport`]. [`segments`] has a monitor for each part of the traffic, [`season`] knows what an hour of the week looks
//! like. [`performance`] estimates how well a classifier does, and measures it once labels arrive; [`cause`] tells from all this why a
//! model drifts. [`offline`] compares two tables once.

mod binner;
mod build;
pub mod cause;
mod comparison;
mod describe;
mod fsum;
pub mod monitor;
pub mod offline;
pub mod performance;
pub mod profile;
pub mod report;
mod rng;
pub mod season;
pub mod segments;
pub mod sequential;
pub mod special;
pub mod stats;
mod window;

pub use build::{SubjectBuilder, is_usable, numeric, numeric_on};
pub use describe::{Moments, moments, moments_about, quantile};
pub use fsum::fsum;
pub use monitor::{Monitor, Settings};
pub use profile::{Profile, ProfileError};
pub use report::DriftReport;
pub use rng::SplitMix64;
pub use window::{Window, WindowMoments};
