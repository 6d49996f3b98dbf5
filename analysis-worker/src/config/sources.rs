//! What may be asked for context.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use plumbline_service::config::{ParseSetting, Reader};

use super::Secret;

/// What may be asked for context.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Time for all of them together.
    pub timeout: Duration,
    /// Admin URLs by model name.
    pub sidecars: Vec<Sidecar>,
    /// Base URL of Prometheus.
    pub prometheus: Option<Uri>,
    /// The API server of Kubernetes.
    pub kubernetes: Option<KubernetesSource>,
    /// The tracking server of MLflow.
    pub mlflow: Option<MlflowSource>,
    /// Loki.
    pub loki: Option<LokiSource>,
    /// Files and directories of logs.
    pub logs: Vec<PathBuf>,
    /// Tokens of log lines in one analysis.
    pub log_budget: usize,
    /// How far before an incident log lines are of interest.
    pub log_lookback: Duration,
}

/// A model's sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Name of the model.
    pub model: String,
    /// Its sidecar's admin port.
    pub url: Uri,
}

/// An API server, and what of it may be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSource {
    /// Where it is and who we are; nothing for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces that may be looked in; none for all.
    pub namespaces: Vec<String>,
}

/// A tracking server of MLflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlflowSource {
    /// Its address.
    pub url: Uri,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// Alias of the version that serves.
    pub alias: String,
}

/// Loki.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LokiSource {
    /// Its address.
    pub url: Uri,
    /// Sent as `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// LogQL with `$namespace`, `$pods` and `$model`.
    pub query: String,
}

impl Sources {
    /// Nothing to ask, with the times and budgets of the defaults.
    pub const fn none() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            sidecars: Vec::new(),
            prometheus: None,
            kubernetes: None,
            mlflow: None,
            loki: None,
            logs: Vec::new(),
            log_budget: 8_000,
            log_lookback: Duration::from_mins(30),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let timeout: Duration = reader.value("collect_timeout");
        reader.check("collect_timeout", !timeout.is_zero(), "must be longer than 0");
        let log_budget: usize = reader.value("log_budget");
        reader.check("log_budget", log_budget >= 200, "must be at least 200");
        Self {
            timeout,
            sidecars: reader.list("sidecar"),
            prometheus: reader.optional("prometheus"),
            kubernetes: kubernetes(reader),
            mlflow: mlflow(reader),
            loki: loki(reader),
            logs: reader.list("logs"),
            log_budget,
            log_lookback: reader.value("log_lookback"),
        }
    }

    /// Since when log lines of an incident are of interest, in milliseconds since 1970.
    pub(crate) fn logs_since(&self, started_at: i64) -> i64 {
        started_at - i64::try_from(self.log_lookback.as_millis()).unwrap_or(i64::MAX / 4)
    }
}

fn kubernetes(reader: &mut Reader) -> Option<KubernetesSource> {
    let source = KubernetesSource {
        kubeconfig: reader.optional("kubeconfig"),
        namespaces: reader.list("kubernetes_namespace"),
    };
    let on = reader.switch("kubernetes");
    reader.check(
        "kubernetes_namespace",
        on || source.namespaces.is_empty(),
        "has no effect without `kubernetes`",
    );
    let is_name = |name: &String| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        name.len() <= 63 && name.chars().all(plain)
    };
    reader.check(
        "kubernetes_namespace",
        source.namespaces.iter().all(is_name),
        "must be names of namespaces",
    );
    on.then_some(source)
}

fn mlflow(reader: &mut Reader) -> Option<MlflowSource> {
    let (url, token) = (reader.optional("mlflow"), reader.optional("mlflow_token"));
    let alias = reader.value("mlflow_alias");
    Some(MlflowSource {
        url: url?,
        token,
        alias,
    })
}

fn loki(reader: &mut Reader) -> Option<LokiSource> {
    let (url, tenant): (Option<Uri>, Option<String>) =
        (reader.optional("loki"), reader.optional("loki_tenant"));
    let query = reader.value("loki_query");
    let is_header = tenant
        .as_ref()
        .is_none_or(|tenant| tenant.chars().all(|c| c.is_ascii_graphic()));
    reader.check("loki_tenant", is_header, "must be printable ASCII without blanks");
    reader.check(
        "loki_tenant",
        url.is_some() || tenant.is_none(),
        "has no effect without `loki`",
    );
    Some(LokiSource {
        url: url?,
        tenant,
        query,
    })
}

impl ParseSetting for Sidecar {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected = || "expected MODEL=URL such as churn=http://127.0.0.1:9902".to_owned();
        let (model, url) = text.split_once('=').ok_or_else(expected)?;
        if model.is_empty() {
            return Err(expected());
        }
        let url = Uri::parse_setting(url).map_err(|_| expected())?;
        Ok(Self {
            model: model.to_owned(),
            url,
        })
    }
}
