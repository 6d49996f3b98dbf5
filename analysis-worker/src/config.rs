//! Settings of the worker.

mod actions;
mod provider;
mod sources;
mod triage;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use plumbline_service::config::{ByteSize, Common, ParseSetting, Reader, Setting};

pub use actions::{Actions, SlackConfig};
pub use provider::{
    Engine, GeminiCliEngine, GeminiEngine, Limits, ModelConfig, OllamaEngine, OpenAiEngine, ProviderConfig,
    VertexEngine,
};
pub use sources::{KubernetesSource, LokiSource, MlflowSource, Sidecar, Sources};
pub use triage::TriageConfig;

use crate::github::Repository;

/// Settings beyond the common ones.
pub const SETTINGS: &[Setting] = &{
    let mut all = [OWN[0]; OWN.len() + actions::SETTINGS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < OWN.len() {
            OWN[at]
        } else {
            actions::SETTINGS[at - OWN.len()]
        };
        at += 1;
    }
    all
};

const OWN: &[Setting] = &[
    Setting::new(
        "store",
        "FILE",
        "SQLite database of accepted alerts, incidents and reports; made if missing.",
    )
    .default("plumbline-worker.db"),
    Setting::secret(
        "webhook_token",
        "TOKEN",
        "Bearer token that senders of alerts and events must present; none is asked for without it.",
    ),
    Setting::new("max_body_size", "SIZE", "Largest body of a webhook.").default("4MiB"),
    Setting::new("analyses", "N", "Analyses at the same time.").default("2"),
    Setting::new(
        "collect_timeout",
        "TIME",
        "Time for gathering context; a source that is late is reported missing.",
    )
    .default("10s"),
    Setting::repeated(
        "sidecar",
        "MODEL=URL",
        "Admin URL of a model's sidecar, asked for /drift. Also allows an event's source at this origin to be asked.",
    ),
    Setting::new(
        "prometheus",
        "URL",
        "Prometheus to query for request rate, latency, errors and drift scores, and for alerts that the worker was not told.",
    ),
    Setting::new(
        "backfill",
        "TIME",
        "How far back Prometheus is asked for alerts that fired while the worker could not be told; 0 asks for none.",
    )
    .default("7d"),
    Setting::new(
        "backfill_matchers",
        "MATCHERS",
        "Labels of the alerts that Alertmanager sends here, as PromQL has them, such as team=\"ml\",severity!=\"none\"; without it, all alerts are asked for.",
    ),
    Setting::switch(
        "kubernetes",
        "Asks the API server about pods, rollouts, events, nodes and logs.",
    ),
    Setting::new(
        "kubeconfig",
        "FILE",
        "Where the API server is and who we are; KUBECONFIG is read too. Without it, the pod's service account.",
    )
    .shared_variable("KUBECONFIG"),
    Setting::repeated(
        "kubernetes_namespace",
        "NAME",
        "Namespace that may be looked in; without one, all of them.",
    ),
    Setting::new(
        "mlflow",
        "URL",
        "MLflow tracking server to ask for model versions, runs and feature importances.",
    ),
    Setting::secret(
        "mlflow_token",
        "TOKEN",
        "Bearer token for MLflow; MLFLOW_TRACKING_TOKEN is read too.",
    )
    .shared_variable("MLFLOW_TRACKING_TOKEN"),
    Setting::new(
        "mlflow_alias",
        "NAME",
        "Alias of the model version that serves; where there is none, the newest is taken.",
    )
    .default("champion"),
    Setting::new("loki", "URL", "Loki to ask for log lines around an incident."),
    Setting::new("loki_tenant", "NAME", "Sent to Loki as X-Scope-OrgID."),
    Setting::new(
        "loki_query",
        "LOGQL",
        "What Loki is asked for; $namespace, $pods (a pattern) and $model become quoted texts.",
    )
    .default("{namespace=$namespace, pod=~$pods}"),
    Setting::repeated(
        "logs",
        "PATH",
        "Log file, or directory of *.log and *.jsonl files, to search for the cause.",
    ),
    Setting::new(
        "log_budget",
        "TOKENS",
        "Tokens of log lines in one analysis, all files together.",
    )
    .default("8000"),
    Setting::new(
        "log_lookback",
        "TIME",
        "Log lines older than this before the incident are left out.",
    )
    .default("30m"),
    Setting::secret(
        "github_token",
        "TOKEN",
        "Token for GitHub's API: reads runs, and writes comments, issues and dispatches where it may. GITHUB_TOKEN is read too.",
    )
    .shared_variable("GITHUB_TOKEN"),
    Setting::new(
        "github_url",
        "URL",
        "Base of GitHub's API; https://HOST/api/v3 for GitHub Enterprise Server. GITHUB_API_URL is read too.",
    )
    .default("https://api.github.com")
    .shared_variable("GITHUB_API_URL"),
    Setting::secret(
        "github_webhook_secret",
        "SECRET",
        "Secret of the webhook, with which GitHub signs what it sends to /api/v1/github; nothing is taken there without it.",
    ),
    Setting::repeated(
        "github_repository",
        "OWNER/NAME",
        "Repository whose runs of the last 24 hours are looked for at the start and every 10 minutes: GitHub sends a webhook once.",
    ),
    triage::LABEL,
    triage::MENTION,
    Setting::switch(
        "redact_addresses",
        "Also takes IP addresses out of everything stored and sent.",
    ),
    Setting::new(
        "provider",
        "NAME",
        "gemini, vertex, gemini-cli, openai-compatible, ollama, offline, or auto: gemini when there is a key.",
    )
    .default("auto"),
    Setting::secret(
        "gemini_api_key",
        "KEY",
        "Key of the Gemini API; GEMINI_API_KEY is read too.",
    )
    .shared_variable("GEMINI_API_KEY"),
    Setting::new("gemini_model", "NAME", "Model of gemini, vertex and gemini-cli.").default("gemini-3.5-flash"),
    Setting::new(
        "gemini_url",
        "URL",
        "Where the Gemini API is; without it, Google's.",
    ),
    Setting::new("gemini_cli", "PROGRAM", "The command of gemini-cli.").default("gemini"),
    Setting::new("vertex_project", "ID", "Project of vertex; GOOGLE_CLOUD_PROJECT is read too.")
        .shared_variable("GOOGLE_CLOUD_PROJECT"),
    Setting::new("vertex_location", "REGION", "Region of vertex, or global.").default("global"),
    Setting::new("vertex_url", "URL", "Where Vertex AI is; without it, the location's host."),
    Setting::new(
        "vertex_credentials",
        "FILE",
        "Key of a service account; GOOGLE_APPLICATION_CREDENTIALS is read too. Without it, the metadata server is asked.",
    )
    .shared_variable("GOOGLE_APPLICATION_CREDENTIALS"),
    Setting::new(
        "openai_url",
        "URL",
        "Server of openai-compatible, up to and with the version, such as http://127.0.0.1:8000/v1.",
    ),
    Setting::new("openai_model", "NAME", "Model of openai-compatible."),
    Setting::secret(
        "openai_api_key",
        "KEY",
        "Key for openai-compatible, if it wants one; OPENAI_API_KEY is read too.",
    )
    .shared_variable("OPENAI_API_KEY"),
    Setting::new("ollama_url", "URL", "Server of ollama.").default("http://127.0.0.1:11434"),
    Setting::new("ollama_model", "NAME", "Model of ollama."),
    Setting::new(
        "ollama_context",
        "TOKENS",
        "Length of ollama's context, prompt and answer together; a longer prompt is not sent.",
    )
    .default("32768"),
    Setting::new(
        "provider_timeout",
        "TIME",
        "Time for the provider's answer, retries and repair together.",
    )
    .default("120s"),
    Setting::new(
        "recovered_after",
        "TIME",
        "An incident whose signals have been away for this long has recovered; what was done last has the credit.",
    )
    .default("10m"),
    Setting::new(
        "follow_for",
        "TIME",
        "What was done about an incident that still goes on after this has not helped.",
    )
    .default("24h"),
    Setting::new(
        "provider_requests_per_hour",
        "N",
        "Requests to the provider in one hour, retries included.",
    )
    .default("120"),
    Setting::new("provider_requests_per_day", "N", "Requests to the provider in 24 hours.").default("1000"),
    Setting::new(
        "provider_tokens_per_hour",
        "N",
        "Tokens of prompts and answers in one hour.",
    )
    .default("4000000"),
    Setting::new("provider_tokens_per_day", "N", "Tokens of prompts and answers in 24 hours.").default("20000000"),
    Setting::new(
        "provider_price",
        "PRICE",
        "What a million tokens cost, prompts and answers alike; shown on the page of costs.",
    ),
    Setting::switch(
        "print_reports",
        "Prints every finished report to standard output as Markdown.",
    ),
];

/// Default ports: data, admin.
pub const PORTS: (&str, &str) = ("0.0.0.0:8090", "0.0.0.0:9904");

/// The worker's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings that every part has.
    pub common: Common,
    /// SQLite database of accepted alerts, incidents and reports.
    pub store: PathBuf,
    /// How long a write waits for another process that has the database locked.
    pub store_busy_timeout: Duration,
    /// Token that senders must present.
    pub webhook_token: Option<String>,
    /// Largest body of a webhook, in bytes.
    pub max_body_bytes: usize,
    /// Analyses at the same time, at least 1.
    pub analyses: usize,
    /// What may be asked for context.
    pub sources: Sources,
    /// How GitHub is asked, and what its webhooks are checked with.
    pub github: GitHubConfig,
    /// Whom a kind of failed pipeline concerns.
    pub triage: TriageConfig,
    /// How far back Prometheus is asked for alerts that nobody could tell; zero for not at all.
    pub backfill: Duration,
    /// Matchers of the alerts that Alertmanager sends here; empty for all.
    pub backfill_matchers: String,
    /// Also redacts IP addresses.
    pub redact_addresses: bool,
    /// Who analyses.
    pub provider: ProviderConfig,
    /// What a million tokens of the provider cost.
    pub provider_price: Option<f64>,
    /// What is done outside, and who may decide.
    pub actions: Actions,
    /// Prints every finished report to standard output.
    pub print_reports: bool,
    /// An incident whose signals have been away for this long has recovered.
    pub recovered_after: Duration,
    /// What was done about an incident that still goes on after this has not helped.
    pub follow_for: Duration,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value, to be sent.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// How GitHub is asked, and what its webhooks are checked with.
#[derive(Clone)]
pub struct GitHubConfig {
    /// Sent as a bearer token, never logged. Without one, public repositories can be read, 60 times an hour.
    pub token: Option<String>,
    /// Scheme, host, port, and the path below which the API is.
    pub base_url: Uri,
    /// What webhooks are signed with.
    pub webhook_secret: Option<String>,
    /// Whose runs are looked for.
    pub repositories: Vec<Repository>,
}

impl GitHubConfig {
    fn read(reader: &mut Reader) -> Self {
        let token: Option<String> = reader.optional("github_token");
        let printable = token
            .as_ref()
            .is_none_or(|token| token.chars().all(|c| c.is_ascii_graphic()));
        reader.check(
            "github_token",
            printable,
            "must be printable ASCII without blanks",
        );
        Self {
            token,
            base_url: reader.value("github_url"),
            webhook_secret: reader.optional("github_webhook_secret"),
            repositories: reader.list("github_repository"),
        }
    }
}

impl std::fmt::Debug for GitHubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("GitHubConfig")
            .field("token", &hidden(&self.token))
            .field("base_url", &self.base_url)
            .field("webhook_secret", &hidden(&self.webhook_secret))
            .field("repositories", &self.repositories)
            .finish()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl ParseSetting for Secret {
    fn parse_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("expected printable ASCII without blanks".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Config {
    /// Reads it; problems stay with the reader.
    pub fn read(reader: &mut Reader) -> (Common, Self) {
        let common = Common::read(reader);
        let body: ByteSize = reader.value("max_body_size");
        reader.check("max_body_size", body.0 >= 1024, "must be at least 1KiB");
        let analyses: std::num::NonZeroUsize = reader.value("analyses");
        let github = GitHubConfig::read(reader);
        let backfill_matchers: Option<String> = reader.optional("backfill_matchers");
        let has_braces = backfill_matchers
            .as_ref()
            .is_some_and(|text| text.contains(['{', '}']));
        reader.check(
            "backfill_matchers",
            !has_braces,
            "must be matchers without braces, such as team=\"ml\"",
        );
        let config = Self {
            common: common.clone(),
            store: reader.value("store"),
            store_busy_timeout: Duration::from_secs(2),
            webhook_token: reader.optional("webhook_token"),
            max_body_bytes: body.as_usize(),
            analyses: analyses.get(),
            sources: Sources::read(reader),
            backfill: reader.value("backfill"),
            backfill_matchers: backfill_matchers.unwrap_or_default(),
            actions: Actions::read(reader, github.token.is_some()),
            github,
            triage: TriageConfig::read(reader),
            redact_addresses: reader.switch("redact_addresses"),
            provider: ProviderConfig::read(reader),
            provider_price: read_price(reader),
            print_reports: reader.switch("print_reports"),
            recovered_after: reader.value("recovered_after"),
            follow_for: reader.value("follow_for"),
        };
        (common, config)
    }

    /// For tests and for several parts in one process: free ports on loopback, offline, nothing to ask.
    pub fn on_loopback(store: PathBuf) -> Self {
        Self {
            common: Common::on_loopback(),
            store,
            store_busy_timeout: Duration::from_secs(2),
            webhook_token: None,
            max_body_bytes: 4 << 20,
            analyses: 2,
            sources: Sources::none(),
            backfill: Duration::from_hours(7 * 24),
            backfill_matchers: String::new(),
            github: GitHubConfig {
                token: None,
                base_url: Uri::from_static("https://api.github.com"),
                webhook_secret: None,
                repositories: Vec::new(),
            },
            triage: TriageConfig::default(),
            redact_addresses: false,
            provider: ProviderConfig::Offline,
            provider_price: None,
            actions: Actions::nothing(),
            print_reports: false,
            recovered_after: Duration::from_mins(10),
            follow_for: Duration::from_hours(24),
        }
    }

    /// Every secret of the configuration, for taking them out of texts by value.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let mlflow = self.sources.mlflow.as_ref();
        let mlflow = mlflow
            .and_then(|mlflow| mlflow.token.as_ref())
            .map(Secret::reveal);
        let github = [&self.github.token, &self.github.webhook_secret];
        self.webhook_token
            .as_deref()
            .into_iter()
            .chain(self.provider.secret().map(Secret::reveal))
            .chain(mlflow)
            .chain(github.into_iter().filter_map(|secret| secret.as_deref()))
            .chain(self.actions.secrets())
            .collect()
    }
}

fn read_price(reader: &mut Reader) -> Option<f64> {
    let price: Option<f64> = reader.optional("provider_price");
    let usable = price.is_none_or(|price| price.is_finite() && price >= 0.0);
    reader.check("provider_price", usable, "must be 0 or more");
    price.filter(|_| usable)
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::{Outcome, Problems, load};

    use super::*;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(Config, String), Problems> {
        let arguments = arguments.iter().map(ToString::to_string);
        let environment = environment.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        let settings = Common::settings(PORTS.0, PORTS.1);
        match load(
            "analysis-worker",
            &[&settings, SETTINGS],
            arguments,
            environment,
            Config::read,
        )? {
            Outcome::Start { config, shown } => Ok((config.1, shown.to_string())),
            other => panic!("a configuration, not {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_offline_on_port_8090() {
        let (config, _) = read(&[], &[]).expect("valid");
        assert_eq!(config.common.listen.port(), 8090);
        assert!(matches!(config.provider, ProviderConfig::Offline));
    }

    #[test]
    fn a_key_switches_gemini_on_and_is_not_shown() {
        let (config, shown) = read(&[], &[("GEMINI_API_KEY", "k-123456")]).expect("valid");
        assert_eq!(config.provider.title(), "gemini (gemini-3.5-flash)");
        assert!(config.secrets().contains(&"k-123456"));
        assert!(!shown.contains("k-123456") && !format!("{config:?}").contains("k-123456"));
        let (config, _) = read(&["--provider", "offline"], &[("GEMINI_API_KEY", "k-123456")]).expect("valid");
        assert!(matches!(config.provider, ProviderConfig::Offline));
    }

    #[test]
    fn each_provider_needs_what_it_is_reached_by() {
        for (arguments, expected) in [
            (&["--provider=vertex"][..], "vertex needs vertex_project"),
            (
                &["--provider=openai-compatible", "--openai-model=m"],
                "needs openai_url and openai_model",
            ),
            (&["--provider=ollama"], "ollama needs ollama_model"),
            (&["--provider=gemini-cli"], "gemini-cli needs gemini_api_key"),
            (&["--provider=bard"], "expected gemini, vertex,"),
            (&["--vertex-location=../x"], "must be a region"),
        ] {
            let text = read(arguments, &[]).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
        }
        let (config, _) = read(&["--provider=vertex"], &[("GOOGLE_CLOUD_PROJECT", "p")]).expect("valid");
        let ProviderConfig::Model(model) = &config.provider else {
            panic!("a model")
        };
        assert!(
            matches!(&model.engine, Engine::Vertex(vertex) if vertex.base_url == "https://aiplatform.googleapis.com/")
        );
        assert_eq!(model.limits, Limits::default());
    }

    #[test]
    fn problems_are_told_together() {
        let text = read(
            &[
                "--provider=gemini",
                "--sidecar=churn",
                "--analyses=0",
                "--gemini-model=../x",
                "--log-budget=10",
            ],
            &[],
        )
        .expect_err("five problems")
        .to_string();
        for expected in [
            "5 problems",
            "gemini needs",
            "MODEL=URL",
            "at least 1",
            "gemini_model",
            "log_budget",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn settings_of_a_source_that_is_not_asked_are_told() {
        let text = read(
            &[
                "--kubernetes-namespace=Models",
                "--loki-tenant=a",
                "--mlflow-token=b c",
                "--backfill-matchers={a=\"b\"}",
            ],
            &[],
        )
        .expect_err("problems")
        .to_string();
        for expected in [
            "has no effect without `kubernetes`",
            "must be names of namespaces",
            "has no effect without `loki`",
            "expected printable ASCII",
            "matchers without braces",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let arguments = [
            "--mlflow=http://mlflow:5000",
            "--mlflow-token=tok-123456",
            "--kubernetes",
        ];
        let (config, shown) = read(&arguments, &[("KUBECONFIG", "/k")]).expect("valid");
        assert!(config.secrets().contains(&"tok-123456"));
        assert!(!shown.contains("tok-123456") && !format!("{config:?}").contains("tok-123456"));
        let kubernetes = config.sources.kubernetes.expect("asked");
        assert_eq!(kubernetes.kubeconfig, Some("/k".into()));
    }

    #[test]
    fn a_sidecar_has_a_model_and_a_url() {
        let (config, _) = read(&["--sidecar", "churn=http://127.0.0.1:9902"], &[]).expect("valid");
        assert_eq!(config.sources.sidecars[0].model, "churn");
        assert_eq!(config.sources.sidecars[0].url.port_u16(), Some(9902));
    }
}
