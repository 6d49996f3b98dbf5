//! Proxies beside each other in front of constant-answer servers, interleaved: what they cost and what they add.
//!
//! [`Settings`] says how long and where, [`compare`] measures every [`Contender`] in turn, [`Figures`] holds what came out.

mod measure;
mod rounds;
mod settings;
mod start;

use std::net::SocketAddr;

pub use self::measure::{Care, Figures, Load, Pick, Sample};
pub use self::rounds::{compare, progress};
pub use self::settings::Settings;
pub use self::start::{NGINX_ARGUMENTS, Template, constant_server};
use crate::traffic::Cell;

/// What is measured, and is up.
pub trait Contender {
    /// As the tables have it.
    fn label(&self) -> &'static str;

    /// Where requests of this kind go.
    fn addresses(&self, cell: Cell) -> Vec<SocketAddr>;

    /// The process whose CPU time counts, with all of its children; nobody's where there is no proxy.
    fn pid(&self) -> Option<u32>;

    /// The last lines of its log.
    fn log(&self) -> String;

    /// Rows observed and skipped so far.
    ///
    /// # Errors
    /// When it does not tell.
    fn rows(&self) -> anyhow::Result<(f64, f64)> {
        Ok((0.0, 0.0))
    }
}
