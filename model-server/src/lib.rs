//! Serves ONNX models over the Open Inference Protocol.
//!
//! A request enters and leaves through `server`; `scheduler` decides when and on which thread it runs on a
//! `session` of its `model`. Only `repository` loads models; everyone else holds a snapshot of it. `onnx`
//! reads files and makes stock converter output servable; `library` finds ONNX Runtime before anything touches it.
//! `check` tells what a file is and whether it will serve, without a server.

mod app;
mod check;
mod classification;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod library;
mod metrics;
mod model;
mod onnx;
mod repository;
mod scheduler;
mod server;
mod session;
mod statistics;

use plumbline_service::Part;

pub use app::App;
pub use check::{CheckReport, OpsetReport, TensorReport, check};
pub use config::{Config, ModelControl, ModelPath, RepositoryConfig, SETTINGS};
pub use library::{Attempts, Library, LibraryError};
pub use onnx::{Dimension, FileError, ValueType};
pub use repository::{
    DiscoverError, LoadError, LoadErrors, LoadProblem, ModelTomlError, Unservable, VersionPolicy,
};
pub use session::BuildError;

/// This program.
pub const PART: Part = Part {
    name: "model-server",
    version: env!("CARGO_PKG_VERSION"),
};
