//! Alerts and drift events in, validated reports out.
//!
//! A webhook's body becomes signals (`intake`), which the `store` commits before the sender gets its 200. The
//! `runner` takes the jobs that come of them: `collect` gathers facts, a `provider` draws findings from them, and
//! what it says is validated (`report`) before anyone reads it at the pages and the API of the `server`. With the
//! report, `policy` decides what is done outside; the `outbox` does it, each effect once, and the `audit` log proves it.
//! Everything from outside goes through `text` and `redact` first.

mod action;
mod analysis;
mod app;
mod ask;
mod audit;
mod backfill;
mod capacity;
mod collect;
mod command;
mod config;
mod drift;
mod evidence;
mod follow;
mod github;
mod http;
mod intake;
mod metrics;
mod outbox;
mod policy;
mod postmortem;
mod prometheus;
mod provider;
mod redact;
mod report;
mod runner;
mod server;
mod signal;
mod slack;
mod store;
mod triage;
mod urgency;
mod watch;

use plumbline_log_fitting::text;

pub use app::App;
pub use command::{PART, main};
pub use config::{
    Actions, Config, Engine, GeminiCliEngine, GeminiEngine, GitHubConfig, KubernetesSource, Limits,
    LokiSource, MlflowSource, ModelConfig, OllamaEngine, OpenAiEngine, PORTS, ProviderConfig, SETTINGS,
    Secret, Sidecar, SlackConfig, Sources, TriageConfig, VertexEngine,
};
pub use drift::{Bin, Drift, DriftSubject, Role, State, Test};
pub use evidence::{Evidence, Missing, Source};
pub use github::{Error as GitHubError, Repository};
pub use policy::{Approval, Policy, RetrainPolicy, Workflow};
pub use report::{
    Affected, Analysis, Cause, Citation, Confidence, DriftFindings, DriftKind, FailureType, FalsePositive,
    Findings, Fix, IncidentFindings, Outcome, Remediation, Remedy, RemedyAction, Report, Risk, RootCause,
    SCHEMA, Subject, TriageFinding, TriageFindings, Urgency, Verdict,
};
pub use runner::FinishedReport;
pub use store::OpenError;
