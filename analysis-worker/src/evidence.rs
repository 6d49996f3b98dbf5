//! What is known about an incident: facts with an id each, and what could not be had.

use serde::{Deserialize, Serialize};

use crate::drift::Drift;
use crate::triage::Pipeline;

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An alert of Alertmanager.
    Alert,
    /// A drift event of a sidecar.
    DriftEvent,
    /// A gateway's event about a canary.
    CanaryEvent,
    /// A sidecar's `/drift`, read now.
    DriftState,
    /// Queries to Prometheus.
    Prometheus,
    /// Objects of the Kubernetes API: pods, rollouts, events, nodes.
    Kubernetes,
    /// Logs of containers, from the Kubernetes API.
    PodLogs,
    /// Log lines of Loki.
    Loki,
    /// Log files of the parts.
    Logs,
    /// A workflow run: its jobs and steps.
    WorkflowRun,
    /// What the tools of a job say, found by code.
    Detections,
    /// The log of a job.
    JobLog,
    /// Annotations of a job.
    Annotations,
    /// What changed since the last green run.
    Changes,
    /// Lines of the code that a tool names.
    SourceCode,
    /// A report of a scanner or a test tool.
    ToolReport,
    /// An earlier incident of the kind.
    PastIncident,
    /// MLflow's registry and runs.
    Mlflow,
}

impl Source {
    /// Every source, for metrics that show zero.
    pub const ALL: [Self; 18] = [
        Self::Alert,
        Self::DriftEvent,
        Self::CanaryEvent,
        Self::DriftState,
        Self::Prometheus,
        Self::Kubernetes,
        Self::PodLogs,
        Self::Loki,
        Self::Logs,
        Self::WorkflowRun,
        Self::Detections,
        Self::JobLog,
        Self::Annotations,
        Self::Changes,
        Self::SourceCode,
        Self::ToolReport,
        Self::PastIncident,
        Self::Mlflow,
    ];

    /// As JSON and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::DriftEvent => "drift_event",
            Self::CanaryEvent => "canary_event",
            Self::DriftState => "drift_state",
            Self::Prometheus => "prometheus",
            Self::Kubernetes => "kubernetes",
            Self::PodLogs => "pod_logs",
            Self::Loki => "loki",
            Self::Logs => "logs",
            Self::WorkflowRun => "workflow_run",
            Self::Detections => "detections",
            Self::JobLog => "job_log",
            Self::Annotations => "annotations",
            Self::Changes => "changes",
            Self::SourceCode => "source_code",
            Self::ToolReport => "tool_report",
            Self::PastIncident => "past_incident",
            Self::Mlflow => "mlflow",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::DriftEvent => "drift event",
            Self::CanaryEvent => "canary event",
            Self::DriftState => "sidecar's /drift",
            Self::Prometheus => "Prometheus",
            Self::Kubernetes => "Kubernetes",
            Self::PodLogs => "pod logs",
            Self::Loki => "Loki",
            Self::Logs => "logs",
            Self::WorkflowRun => "workflow run",
            Self::Detections => "what the tools say",
            Self::JobLog => "job log",
            Self::Annotations => "annotations",
            Self::Changes => "changes since the last green run",
            Self::SourceCode => "source code",
            Self::ToolReport => "report of a tool",
            Self::PastIncident => "past incident",
            Self::Mlflow => "MLflow",
        }
    }

    /// Whether a fact of this source is lines of a log.
    pub(crate) const fn is_log(self) -> bool {
        matches!(self, Self::PodLogs | Self::Loki | Self::Logs)
    }
}

/// One fact, redacted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `E1`, `E2`, … within one report.
    pub id: String,
    /// Where it comes from.
    pub source: Source,
    /// One line.
    pub title: String,
    /// The fact itself; quotes are checked against it.
    pub content: String,
}

/// A source that was asked and gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which one.
    pub source: Source,
    /// Why, in one line.
    pub reason: String,
}

/// Everything that an analysis may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) missing: Vec<Missing>,
    /// The newest comparison with the reference, with the evidence id of each of its subjects.
    pub(crate) drift: Option<Drift>,
    /// What a failed pipeline says about itself.
    pub(crate) pipeline: Option<Pipeline>,
}

impl Context {
    /// Adds a fact and returns its id.
    pub(crate) fn add(
        &mut self,
        source: Source,
        title: impl Into<String>,
        content: impl Into<String>,
    ) -> String {
        let id = format!("E{}", self.evidence.len() + 1);
        self.evidence.push(Evidence {
            id: id.clone(),
            source,
            title: title.into(),
            content: content.into(),
        });
        id
    }

    /// Notes a source that gave nothing.
    pub(crate) fn missing(&mut self, source: Source, reason: impl AsRef<str>) {
        let reason = crate::text::one_line(&crate::text::sanitise(reason.as_ref()), 300);
        self.missing.push(Missing { source, reason });
    }

    /// The fact with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Evidence> {
        self.evidence.iter().find(|evidence| evidence.id == id)
    }
}
