//! Settings of the worker.

mod triage;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use plumbline_service::config::{ByteSize, Common, ParseSetting, Reader, Setting};

pub use triage::TriageConfig;

use crate::github::Repository;

/// Settings beyond the common ones.
pub const SETTINGS: &[Setting] = &[
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
        "Prometheus to query for request rate, latency, errors and drift scores.",
    ),
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
        "gemini, offline, or auto: gemini when there is a key.",
    )
    .default("auto"),
    Setting::secret(
        "gemini_api_key",
        "KEY",
        "Key of the Gemini API; GEMINI_API_KEY is read too.",
    )
    .shared_variable("GEMINI_API_KEY"),
    Setting::new("gemini_model", "NAME", "Model that is asked.").default("gemini-3.5-flash"),
    Setting::new("gemini_url", "URL", "Where the Gemini API is.")
        .default("https://generativelanguage.googleapis.com"),
    Setting::new(
        "provider_timeout",
        "TIME",
        "Time for the provider's answer, retries and repair together.",
    )
    .default("120s"),
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
    /// Also redacts IP addresses.
    pub redact_addresses: bool,
    /// Who analyses.
    pub provider: ProviderConfig,
    /// Prints every finished report to standard output.
    pub print_reports: bool,
}

/// What may be asked for context.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Time for all of them together.
    pub timeout: Duration,
    /// Admin URLs by model name.
    pub sidecars: Vec<Sidecar>,
    /// Base URL of Prometheus.
    pub prometheus: Option<Uri>,
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

/// Who analyses.
#[derive(Clone, Debug)]
pub enum ProviderConfig {
    /// Code, from the evidence alone.
    Offline,
    /// The Gemini API; offline when it fails.
    Gemini(GeminiConfig),
}

/// How the Gemini API is asked.
#[derive(Clone)]
pub struct GeminiConfig {
    /// Sent as `x-goog-api-key`, never logged.
    pub api_key: String,
    /// Name of the model.
    pub model: String,
    /// Scheme, host and port.
    pub base_url: Uri,
    /// Time for an answer, retries and repair together.
    pub timeout: Duration,
}

impl std::fmt::Debug for GeminiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeminiConfig")
            .field("api_key", &"***")
            .field("model", &self.model)
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The `provider` setting.
enum Choice {
    Auto,
    Gemini,
    Offline,
}

impl ParseSetting for Choice {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "gemini" => Ok(Self::Gemini),
            "offline" => Ok(Self::Offline),
            _ => Err("expected gemini, offline or auto".to_owned()),
        }
    }
}

impl Config {
    /// Reads it; problems stay with the reader.
    pub fn read(reader: &mut Reader) -> (Common, Self) {
        let common = Common::read(reader);
        let body: ByteSize = reader.value("max_body_size");
        reader.check("max_body_size", body.0 >= 1024, "must be at least 1KiB");
        let analyses: std::num::NonZeroUsize = reader.value("analyses");
        let timeout: Duration = reader.value("collect_timeout");
        reader.check("collect_timeout", !timeout.is_zero(), "must be longer than 0");
        let log_budget: usize = reader.value("log_budget");
        reader.check("log_budget", log_budget >= 200, "must be at least 200");
        let sources = Sources {
            timeout,
            sidecars: reader.list("sidecar"),
            prometheus: reader.optional("prometheus"),
            logs: reader.list("logs"),
            log_budget,
            log_lookback: reader.value("log_lookback"),
        };
        let config = Self {
            common: common.clone(),
            store: reader.value("store"),
            store_busy_timeout: Duration::from_secs(2),
            webhook_token: reader.optional("webhook_token"),
            max_body_bytes: body.as_usize(),
            analyses: analyses.get(),
            sources,
            github: GitHubConfig::read(reader),
            triage: TriageConfig::read(reader),
            redact_addresses: reader.switch("redact_addresses"),
            provider: read_provider(reader),
            print_reports: reader.switch("print_reports"),
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
            sources: Sources {
                timeout: Duration::from_secs(10),
                sidecars: Vec::new(),
                prometheus: None,
                logs: Vec::new(),
                log_budget: 8_000,
                log_lookback: Duration::from_mins(30),
            },
            github: GitHubConfig {
                token: None,
                base_url: Uri::from_static("https://api.github.com"),
                webhook_secret: None,
                repositories: Vec::new(),
            },
            triage: TriageConfig::default(),
            redact_addresses: false,
            provider: ProviderConfig::Offline,
            print_reports: false,
        }
    }

    /// Every secret of the configuration, for taking them out of texts by value.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let key = match &self.provider {
            ProviderConfig::Gemini(gemini) => Some(gemini.api_key.as_str()),
            ProviderConfig::Offline => None,
        };
        let github = [&self.github.token, &self.github.webhook_secret];
        self.webhook_token
            .as_deref()
            .into_iter()
            .chain(key)
            .chain(github.into_iter().filter_map(|secret| secret.as_deref()))
            .collect()
    }
}

fn read_provider(reader: &mut Reader) -> ProviderConfig {
    let choice: Choice = reader.value("provider");
    let api_key: Option<String> = reader.optional("gemini_api_key");
    let model: String = reader.value("gemini_model");
    let base_url: Uri = reader.value("gemini_url");
    let timeout: Duration = reader.value("provider_timeout");
    reader.check(
        "provider_timeout",
        timeout >= Duration::from_secs(1),
        "must be at least 1s",
    );
    let usable = model
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    reader.check("gemini_model", usable, "must be a name such as gemini-3.5-flash");
    match (choice, api_key) {
        (Choice::Auto | Choice::Gemini, Some(api_key)) => {
            let printable = api_key.chars().all(|c| c.is_ascii_graphic());
            reader.check(
                "gemini_api_key",
                printable,
                "must be printable ASCII without blanks",
            );
            ProviderConfig::Gemini(GeminiConfig {
                api_key,
                model,
                base_url,
                timeout,
            })
        }
        (Choice::Gemini, None) => {
            reader.reject("provider", "gemini needs gemini_api_key");
            ProviderConfig::Offline
        }
        (Choice::Auto | Choice::Offline, _) => ProviderConfig::Offline,
    }
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
        assert!(matches!(&config.provider, ProviderConfig::Gemini(g) if g.api_key == "k-123456"));
        assert!(!shown.contains("k-123456") && !format!("{config:?}").contains("k-123456"));
        let (config, _) = read(&["--provider", "offline"], &[("GEMINI_API_KEY", "k-123456")]).expect("valid");
        assert!(matches!(config.provider, ProviderConfig::Offline));
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
    fn a_sidecar_has_a_model_and_a_url() {
        let (config, _) = read(&["--sidecar", "churn=http://127.0.0.1:9902"], &[]).expect("valid");
        assert_eq!(config.sources.sidecars[0].model, "churn");
        assert_eq!(config.sources.sidecars[0].url.port_u16(), Some(9902));
    }
}
