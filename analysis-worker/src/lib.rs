//! Alerts and drift events in, validated reports out.
//!
//! A webhook's body becomes signals (`intake`), which the `store` commits before the sender gets its 200. The
//! `runner` takes the jobs that come of them: `collect` gathers facts, a `provider` draws findings from them, and
//! what it says is validated (`report`) before anyone reads it at the pages and the API of the `server`.
//! Everything from outside goes through `text` and `redact` first.

mod analysis;
mod app;
mod collect;
mod command;
mod config;
mod drift;
mod evidence;
mod github;
mod http;
mod intake;
mod metrics;
mod provider;
mod redact;
mod report;
mod runner;
mod server;
mod signal;
mod store;
mod triage;
mod urgency;
mod watch;

use plumbline_log_fitting::text;

pub use app::App;
pub use command::{PART, main};
pub use config::{
    Config, GeminiConfig, GitHubConfig, PORTS, ProviderConfig, SETTINGS, Sidecar, Sources, TriageConfig,
};
pub use drift::{Bin, Drift, DriftSubject, Role, State};
pub use evidence::{Evidence, Missing, Source};
pub use github::{Error as GitHubError, Repository};
pub use report::{
    Affected, Analysis, Cause, Citation, Confidence, DriftFindings, DriftKind, FailureType, FalsePositive,
    Findings, Fix, IncidentFindings, Outcome, Remediation, Remedy, RemedyAction, Report, Risk, RootCause,
    SCHEMA, Subject, TriageFinding, TriageFindings, Urgency, Verdict,
};
pub use runner::FinishedReport;
pub use store::OpenError;
