//! Settings of the sidecar.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plumbline_drift::{Profile, Settings};
use plumbline_service::config::{ByteSize, Common, ParseSetting, Reader, Setting};
use plumbline_service::upstream::Target;
use plumbline_service::{ClientTlsFiles, TLS_SETTINGS, TlsFiles, error_chain};

use crate::logger::LogMode;

/// A reference of fewer rows tells large changes only.
pub(crate) const MIN_LEARN_ROWS: u64 = 1_000;

/// Default data and admin ports.
pub const PORTS: [&str; 2] = ["0.0.0.0:8081", "0.0.0.0:9902"];

/// The sidecar's settings; the common ones are in [`Common::settings`].
pub const SETTINGS: &[Setting] = &[
    Setting::new("upstream", "URL", "The model server: http://HOST:PORT, https://HOST:PORT or unix:PATH.")
        .default("http://127.0.0.1:8082"),
    Setting::new(
        "upstream_tls_ca",
        "FILE",
        "Authorities (PEM) of the model server's certificate, when it is reached under TLS. Replaced files are used \
         without a restart.",
    ),
    Setting::new("upstream_tls_cert", "FILE", "Certificate with its chain (PEM) to show to the model server."),
    Setting::new("upstream_tls_key", "FILE", "Private key of that certificate (PEM)."),
    TLS_SETTINGS[0],
    TLS_SETTINGS[1],
    TLS_SETTINGS[2],
    TLS_SETTINGS[3],
    Setting::new("upstream_connect_timeout", "TIME", "Time to connect to the model server.").default("2s"),
    Setting::new(
        "upstream_timeout",
        "TIME",
        "Time from the end of a request to the head of the model server's answer.",
    )
    .default("60s"),
    Setting::new(
        "upstream_idle_timeout",
        "TIME",
        "How long an idle connection to the model server is kept; must be shorter than the server keeps it.",
    )
    .default("4s"),
    Setting::new(
        "upstream_probe",
        "TIME",
        "Time between two looks at the readiness of a model server that is ready.",
    )
    .default("2s"),
    Setting::repeated(
        "profile",
        "[NAME=]FILE",
        "Reference profile; with NAME for the model of that name instead of the profile's own.",
    ),
    Setting::new(
        "model_dir",
        "DIR",
        "Where profile.json is looked for when no profile is given: here, then in each MODEL/ and MODEL/VERSION/.",
    )
    .default("/mnt/models"),
    Setting::new(
        "model_name",
        "NAME",
        "Name under which the model of DIR/profile.json is served, when it is not the profile's.",
    ),
    Setting::new(
        "profile_poll",
        "TIME",
        "Time between two looks at the profiles; one that two looks find changed is taken up.",
    )
    .default("2s"),
    Setting::new(
        "learn_rows",
        "N",
        "Rows from which a reference is learned for a model without a profile; 0: none is.",
    )
    .default("5000"),
    Setting::new(
        "analysis",
        "on|off",
        "off: requests are forwarded and timed, and nothing is read out of them.",
    )
    .default("on"),
    Setting::new(
        "state_dir",
        "DIR",
        "Where the comparison, and predictions that wait for labels, are kept across restarts; without it, both begin anew.",
    ),
    Setting::new("capture_limit", "BYTES", "Requests and answers above this size are forwarded unobserved.")
        .default("1MiB"),
    Setting::new("queue_items", "N", "Exchanges that may wait for the observer; more are not observed.")
        .default("1024"),
    Setting::new(
        "queue_bytes",
        "BYTES",
        "Bytes of bodies that are kept for the observer, of exchanges in flight and of those that wait; above, exchanges \
         are not observed.",
    )
    .default("8MiB"),
    Setting::new("window_rows", "N", "Rows of a detection window.").default("500"),
    Setting::new("false_alarm_rate", "RATE", "False alarms per row that a model may raise while nothing changes.")
        .default("0.000001"),
    Setting::new("warning_effect", "EFFECT", "Effect size of a warning, on the scale of the PSI.").default("0.02"),
    Setting::new("drift_effect", "EFFECT", "Effect size of drift, on the scale of the PSI.").default("0.1"),
    Setting::new("window_time", "TIME", "A window with enough rows is closed after this time at the latest.")
        .default("60s"),
    Setting::new(
        "events_to",
        "URL",
        "The analysis-worker, or the whole URL of its events endpoint; without it drift is told in metrics only.",
    ),
    Setting::new(
        "spool_dir",
        "DIR",
        "Where events wait for a worker that does not answer, across restarts; without it, in state_dir, or else in memory.",
    ),
    Setting::new(
        "admin_url",
        "URL",
        "How others reach the admin port, for the source of events; made from admin_listen when not given.",
    ),
    Setting::new("feedback_ttl", "TIME", "How long a prediction is kept for its label.").default("24h"),
    Setting::new(
        "feedback_bytes",
        "BYTES",
        "Bytes of predictions that are kept for their labels, the newest; 0: none are, and labels are refused.",
    )
    .default("16MiB"),
    Setting::new(
        "log_to",
        "URL",
        "Where requests and answers are logged as CloudEvents, as KServe's logger does; without it, nowhere.",
    ),
    Setting::new("log_mode", "SIDE", "What is logged: all, request or response.").default("all"),
    Setting::new("log_sample", "SHARE", "Share of the exchanges that is logged, 0 to 1.").default("1"),
    Setting::new("log_bytes", "BYTES", "Bytes that may wait to be logged; more are dropped and counted.").default("8MiB"),
    Setting::new(
        "log_inference_service",
        "NAME",
        "The InferenceService that the log tells; the name of the model when not given.",
    ),
    Setting::new("log_namespace", "NAME", "The namespace that the log tells.").shared_variable("POD_NAMESPACE"),
    Setting::new("log_component", "NAME", "The component that the log tells.").default("predictor"),
    Setting::new("log_endpoint", "NAME", "The endpoint that the log tells: default or canary.").default("default"),
];

/// A profile and the model that it is for.
#[derive(Clone, Debug)]
pub struct NamedProfile {
    /// Name under which the model is served.
    pub model: String,
    /// What its rows are compared with.
    pub profile: Profile,
}

/// Names in the attributes of payload events.
#[derive(Clone, Debug)]
pub struct LogNames {
    /// The InferenceService; without it, the name of the model stands for it.
    pub inference_service: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its component.
    pub component: String,
    /// `default` or `canary`.
    pub endpoint: String,
}

impl Default for LogNames {
    fn default() -> Self {
        Self {
            inference_service: None,
            namespace: None,
            component: "predictor".to_owned(),
            endpoint: "default".to_owned(),
        }
    }
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `on`
    On,
    /// `off`
    Off,
}

impl ParseSetting for Switch {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("expected on or off".to_owned()),
        }
    }
}

/// Something that a test does where exchanges are observed: stall, or panic.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    /// Calls `hook` each time.
    pub fn new(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// Settings of the sidecar. Later wins: defaults, the `--config` file, `PLUMBLINE_SIDECAR_*`, flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports, logging, drain.
    pub common: Common,
    /// The model server.
    pub upstream: Target,
    /// Whom it has to prove to be, and who the sidecar is, under TLS.
    pub upstream_tls: Option<ClientTlsFiles>,
    /// Certificate of the data port, if it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Time to connect to it.
    pub upstream_connect_timeout: Duration,
    /// Time from the end of a request to the head of its answer.
    pub upstream_timeout: Duration,
    /// How long an idle connection is kept.
    pub upstream_idle_timeout: Duration,
    /// Time between two looks at its readiness.
    pub upstream_probe: Duration,
    /// Profiles given by name; when there are none, `model_dir` is searched.
    pub profiles: Vec<NamedProfile>,
    /// The files that they were read from, each with the name of its model when that was given; looked at for changes.
    pub profile_files: Vec<(Option<String>, PathBuf)>,
    /// Where profiles are looked for.
    pub model_dir: PathBuf,
    /// Name of the model whose profile lies in `model_dir` itself.
    pub model_name: Option<String>,
    /// Time between two looks at the profiles.
    pub profile_poll: Duration,
    /// Rows from which a reference is learned where there is none.
    pub learn_rows: u64,
    /// Whether rows are observed at all.
    pub analysis: Switch,
    /// Where the comparison, and predictions that wait for labels, are kept across restarts.
    pub state_dir: Option<PathBuf>,
    /// Larger requests and answers are forwarded unobserved.
    pub capture_limit: usize,
    /// Exchanges that may wait for the observer.
    pub queue_items: NonZeroUsize,
    /// Bytes of bodies that are kept for the observer, wherever they are.
    pub queue_bytes: usize,
    /// Windows, and the gates that a verdict passes.
    pub drift: Settings,
    /// Time after which a window with enough rows is closed.
    pub window_time: Duration,
    /// Where drift events go.
    pub events_to: Option<http::Uri>,
    /// Where they wait across restarts.
    pub spool_dir: Option<PathBuf>,
    /// The admin port as others reach it.
    pub admin_url: Option<http::Uri>,
    /// How long a prediction is kept for its label.
    pub feedback_ttl: Duration,
    /// Bytes of predictions that are kept.
    pub feedback_bytes: usize,
    /// Where payloads are logged.
    pub log_to: Option<http::Uri>,
    /// What of them.
    pub log_mode: LogMode,
    /// Share of the exchanges, in `[0, 1]`.
    pub log_sample: f64,
    /// Bytes that may wait for the sink.
    pub log_bytes: usize,
    /// The InferenceService, namespace, component and endpoint that the log tells.
    pub log_names: LogNames,
    /// Called on the observer's thread before each exchange. For tests; a program has none.
    pub before_analysis: Option<Hook>,
    /// Called on the request path wherever something is observed. For tests; a program has none.
    pub while_forwarding: Option<Hook>,
}

impl Config {
    /// Reads the settings; files named by `profile` are read, so that a bad one is told with all other problems.
    pub fn read(reader: &mut Reader) -> (Common, Self) {
        let common = Common::read(reader);
        let config = Self {
            common: common.clone(),
            upstream: reader.value("upstream"),
            upstream_tls: read_upstream_tls(reader),
            tls: TlsFiles::read_settings(reader),
            upstream_connect_timeout: reader.value("upstream_connect_timeout"),
            upstream_timeout: reader.value("upstream_timeout"),
            upstream_idle_timeout: reader.value("upstream_idle_timeout"),
            upstream_probe: reader.value("upstream_probe"),
            profiles: read_profiles(reader),
            profile_files: profile_files(reader),
            model_dir: reader.value("model_dir"),
            model_name: reader.optional("model_name"),
            profile_poll: reader.value("profile_poll"),
            learn_rows: reader.value("learn_rows"),
            analysis: reader.value("analysis"),
            state_dir: reader.optional("state_dir"),
            capture_limit: reader.value::<ByteSize>("capture_limit").as_usize(),
            queue_items: reader.value("queue_items"),
            queue_bytes: reader.value::<ByteSize>("queue_bytes").as_usize(),
            drift: Settings {
                window_rows: reader.value("window_rows"),
                false_alarm_rate: reader.value("false_alarm_rate"),
                warning_effect: reader.value("warning_effect"),
                drift_effect: reader.value("drift_effect"),
                ..Settings::default()
            },
            window_time: reader.value("window_time"),
            events_to: reader.optional("events_to"),
            spool_dir: reader.optional("spool_dir"),
            admin_url: reader.optional("admin_url"),
            feedback_ttl: reader.value("feedback_ttl"),
            feedback_bytes: reader.value::<ByteSize>("feedback_bytes").as_usize(),
            log_to: reader.optional("log_to"),
            log_mode: reader.value("log_mode"),
            log_sample: reader.value("log_sample"),
            log_bytes: reader.value::<ByteSize>("log_bytes").as_usize(),
            log_names: LogNames {
                inference_service: reader.optional("log_inference_service"),
                namespace: reader.optional("log_namespace"),
                component: reader.value("log_component"),
                endpoint: reader.value("log_endpoint"),
            },
            before_analysis: None,
            while_forwarding: None,
        };
        config.check(reader);
        (common, config)
    }

    /// Tells what cannot be meant, beyond values that are none.
    fn check(&self, reader: &mut Reader) {
        let trusted = self.upstream.is_tls() == self.upstream_tls.is_some();
        reader.check(
            "upstream_tls_ca",
            trusted,
            "is needed for https://, and only for it",
        );
        check_times(reader);
        let plain = |url: &Option<http::Uri>| url.as_ref().is_none_or(|url| url.scheme_str() == Some("http"));
        reader.check(
            "events_to",
            plain(&self.events_to),
            "only http:// is spoken to the worker",
        );
        reader.check(
            "log_to",
            plain(&self.log_to),
            "only http:// is spoken to the sink",
        );
        let share = (0.0..=1.0).contains(&self.log_sample);
        reader.check("log_sample", share, "must be from 0 to 1");
        let spooled = self.spool_dir.is_none() || self.events_to.is_some();
        reader.check("spool_dir", spooled, "has no use without events_to");
        let room = self.queue_bytes >= self.capture_limit;
        reader.check(
            "queue_bytes",
            room,
            "must be at least capture_limit, or large exchanges never fit",
        );
        let enough = self.learn_rows == 0 || self.learn_rows >= MIN_LEARN_ROWS;
        reader.check(
            "learn_rows",
            enough,
            format!("must be 0 or at least {MIN_LEARN_ROWS}, or only large changes can be told"),
        );
        let drift = self.drift;
        let rate = drift.false_alarm_rate;
        reader.check(
            "false_alarm_rate",
            rate > 0.0 && rate < 1.0,
            "must be between 0 and 1",
        );
        reader.check("warning_effect", drift.warning_effect > 0.0, "must be above 0");
        let ordered = drift.drift_effect >= drift.warning_effect;
        reader.check("drift_effect", ordered, "must be at least warning_effect");
        let enough = drift.window_rows >= drift.min_rows;
        reader.check(
            "window_rows",
            enough,
            format!("must be at least {}, or no verdict is sound", drift.min_rows),
        );
    }

    /// For tests and for several parts in one process: free ports on loopback, defaults otherwise, no profile.
    pub fn on_loopback(upstream: Target) -> Self {
        Self {
            common: Common::on_loopback(),
            upstream,
            upstream_tls: None,
            tls: None,
            upstream_connect_timeout: Duration::from_secs(2),
            upstream_timeout: Duration::from_mins(1),
            upstream_idle_timeout: Duration::from_secs(4),
            upstream_probe: Duration::from_secs(2),
            profiles: Vec::new(),
            profile_files: Vec::new(),
            model_dir: PathBuf::from("/mnt/models"),
            model_name: None,
            profile_poll: Duration::from_secs(2),
            learn_rows: 5_000,
            analysis: Switch::On,
            state_dir: None,
            capture_limit: 1 << 20,
            queue_items: NonZeroUsize::new(1024).expect("not 0"),
            queue_bytes: 8 << 20,
            drift: Settings::default(),
            window_time: Duration::from_mins(1),
            events_to: None,
            spool_dir: None,
            admin_url: None,
            feedback_ttl: Duration::from_hours(24),
            feedback_bytes: 16 << 20,
            log_to: None,
            log_mode: LogMode::All,
            log_sample: 1.0,
            log_bytes: 8 << 20,
            log_names: LogNames::default(),
            before_analysis: None,
            while_forwarding: None,
        }
    }
}

/// The files of TLS to the model server; tried, so that a wrong one stops the start.
fn read_upstream_tls(reader: &mut Reader) -> Option<ClientTlsFiles> {
    let settings = ["upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key"];
    let [ca, cert, key] = settings.map(|setting| reader.optional::<PathBuf>(setting));
    let pair = (cert.is_some(), key.is_some());
    reader.check(
        "upstream_tls_cert",
        pair != (true, false),
        "needs upstream_tls_key",
    );
    reader.check(
        "upstream_tls_key",
        pair != (false, true),
        "needs upstream_tls_cert",
    );
    let files = ClientTlsFiles {
        ca: ca?,
        identity: cert.zip(key),
        settings,
    };
    if let Err(error) = files.check() {
        reader.reject(error.setting(), error_chain(&error));
    }
    Some(files)
}

fn read_profiles(reader: &mut Reader) -> Vec<NamedProfile> {
    let mut profiles: Vec<NamedProfile> = Vec::new();
    for given in reader.list::<String>("profile") {
        let (name, path) = split_name(&given);
        match Profile::load(Path::new(path)) {
            Ok(profile) => {
                let model = name.unwrap_or(&profile.model.name).to_owned();
                if profiles.iter().any(|other| other.model == model) {
                    reader.reject("profile", format!("`{model}` is given two profiles"));
                }
                profiles.push(NamedProfile { model, profile });
            }
            Err(error) => {
                let text = error_chain(&error);
                reader.reject(
                    "profile",
                    format!("{path}: {text}; expected a reference profile as `plumbline profile` writes it"),
                );
            }
        }
    }
    profiles
}

fn check_times(reader: &mut Reader) {
    for name in [
        "upstream_connect_timeout",
        "upstream_timeout",
        "upstream_probe",
        "profile_poll",
        "window_time",
        "feedback_ttl",
    ] {
        let time: Duration = reader.value(name);
        reader.check(name, !time.is_zero(), "must be longer than 0");
    }
}

fn profile_files(reader: &mut Reader) -> Vec<(Option<String>, PathBuf)> {
    let given = reader.list::<String>("profile");
    let file = |given: &String| {
        let (name, path) = split_name(given);
        (name.map(str::to_owned), path.into())
    };
    given.iter().map(file).collect()
}

/// `NAME=FILE` or `FILE`; a name has no slash.
fn split_name(given: &str) -> (Option<&str>, &str) {
    match given.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => (Some(name), path),
        _ => (None, given),
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::{Outcome, Problems, load};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, Problems> {
        let arguments = arguments.iter().map(ToString::to_string);
        let common = Common::settings(PORTS[0], PORTS[1]);
        match load("sidecar", &[&common, SETTINGS], arguments, [], Config::read)? {
            Outcome::Start {
                config: (_, config), ..
            } => Ok(config),
            other => panic!("expected a configuration, got {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = read(&[]).expect("valid");
        assert_eq!(config.common.listen.port(), 8081);
        assert_eq!(config.upstream.to_string(), "http://127.0.0.1:8082");
        let loopback = Config::on_loopback(config.upstream.clone());
        assert_eq!(
            format!(
                "{:?}",
                Config {
                    common: loopback.common.clone(),
                    ..config
                }
            ),
            format!("{loopback:?}"),
            "the defaults are written twice and must stay equal"
        );
    }

    #[test]
    fn a_missing_profile_that_was_asked_for_stops_the_start() {
        let problems = read(&[
            "--profile",
            "churn=/nonexistent/profile.json",
            "--events-to",
            "https://worker",
            "--analysis",
            "maybe",
        ])
        .expect_err("three problems")
        .to_string();
        assert!(problems.contains("3 problems"), "{problems}");
        assert!(problems.contains("expected on or off"), "{problems}");
        assert!(problems.contains("/nonexistent/profile.json"), "{problems}");
        assert!(problems.contains("expected a reference profile"), "{problems}");
    }

    #[test]
    fn a_name_before_the_file_is_optional() {
        assert_eq!(
            split_name("churn=a/profile.json"),
            (Some("churn"), "a/profile.json")
        );
        assert_eq!(split_name("a/b=c/profile.json"), (None, "a/b=c/profile.json"));
        assert_eq!(split_name("profile.json"), (None, "profile.json"));
    }
}
