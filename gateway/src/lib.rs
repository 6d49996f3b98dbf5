//! The entry for inference clients: finds the model's route, forwards, balances, protects.
//!
//! A connection's requests become calls in `call`, pass the layers of `stack` from the outside in, and leave through
//! `forward`, which chooses an `endpoint` with `balance`. Which model goes where is a `snapshot`: immutable, replaced
//! whole, read once by each request; `kubernetes` writes it as models come and go. Every failure becomes a status in `error`, and nowhere else.

mod app;
mod balance;
mod body;
mod call;
mod config;
mod endpoint;
mod error;
mod forward;
mod kubernetes;
mod layers;
mod metrics;
mod page;
mod route;
mod snapshot;
mod stack;

pub use app::App;
pub use config::{Config, RevisionSpec, RouteSpec, SETTINGS};
pub use kubernetes::Kubernetes;

/// Which program this is.
pub const PART: plumbline_service::Part = plumbline_service::Part {
    name: "gateway",
    version: env!("CARGO_PKG_VERSION"),
};
