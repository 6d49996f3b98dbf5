//! What every Plumbline binary shares.
//!
//! A binary is [`run`]: it reads a typed configuration ([`config`], every problem told at once), starts logging
//! ([`telemetry`]), opens the admin port on a thread of its own ([`admin`]), and hands a [`Process`] to the part.
//! The part registers what it exports with [`metrics`], holds a [`ReadinessToken`] until it can answer, and gives its
//! request service to [`Listener::serve`], which accepts HTTP/1.1, h2c and gRPC on one port, plain or
//! under [`Tls`], and drains on [`Shutdown`].
//! A request that is traced has a span of [`traces`].
//! What it forwards goes through the pooled connections of [`upstream`].

pub mod admin;
#[cfg(target_os = "linux")]
mod cgroup;
pub mod config;
mod cpus;
mod error_chain;
mod event_sink;
mod files;
mod handover;
pub mod metrics;
mod process;
mod readiness;
mod request_timeout;
mod serve;
mod shutdown;
pub mod telemetry;
mod tls;
mod trace;
pub mod traces;
pub mod upstream;
mod watch;
mod whole_body;

pub use cpus::Cpus;
pub use error_chain::error_chain;
pub use event_sink::EventSink;
pub use files::write_whole;
pub use handover::HandoverError;
pub use process::{Part, Process, StartError, run};
pub use readiness::{Readiness, ReadinessToken};
pub use request_timeout::{REQUEST_TIMEOUT, parse_request_timeout};
pub use serve::{BindError, Listener, Peer, ServeOptions};
pub use shutdown::Shutdown;
pub use tls::{
    ClientAuth, ClientTls, ClientTlsFiles, NamedCertificate, Reload, TLS_SETTINGS, Tls, TlsError, TlsFiles,
};
pub use trace::{REQUEST_ID, RequestId, TRACEPARENT, TraceContext};
pub use watch::{Settling, Stamp};
pub use whole_body::WholeBody;
