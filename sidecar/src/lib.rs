//! Forwards inside the pod, measures every prediction, scores drift.
//!
//! A request goes through `forward` to the one server in `upstream`, and its answer comes back as it is. On the way
//! `tee` keeps copies of both bodies' frames, within a budget; when the last frame of the answer has been taken, an
//! `observation` counts it and offers the copies to the `observer`, a thread of its own, which decodes them and feeds the
//! drift monitor of the model (in `models`). A change of state becomes an event that `events` delivers. A panic in any of
//! that is caught beside the request; nothing after the offer can reach the answer.

mod app;
mod config;
mod events;
mod feedback;
mod files;
mod forward;
mod logger;
mod metrics;
mod models;
mod observation;
mod observer;
mod profiles;
mod references;
mod skip;
mod state;
mod tee;
mod upstream;

pub use app::App;
pub use config::{Config, Hook, LogNames, NamedProfile, PORTS, SETTINGS, Switch};
pub use logger::LogMode;
