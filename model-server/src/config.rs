//! Settings of the model server.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use plumbline_inference_protocol::NanPolicy;
use plumbline_service::config::{ByteSize, Common, ParseSetting, Reader, Setting};
use plumbline_service::{TLS_SETTINGS, TlsFiles};

use crate::repository::{Source, SourceKind, VersionPolicy};

/// Where the model of a pod lies, by KServe's convention.
const DEFAULT_REPOSITORY: &str = "/mnt/models";

/// The part's own settings; [`Common::settings`] come before them.
pub const SETTINGS: &[Setting] = &[
    Setting::repeated(
        "model",
        "[NAME=]PATH",
        "A model: an .onnx file, a directory with one, or a directory with numbered versions.",
    ),
    Setting::new(
        "model_repository",
        "DIR",
        "A model, or a directory of models. Without it and without --model: /mnt/models.",
    ),
    Setting::new(
        "model_control",
        "MODE",
        "Who changes what is served: none (nobody after the start), poll (what changes in the files is loaded), or \
         explicit (the model_repository extension, by request).",
    )
    .default("none"),
    Setting::new(
        "poll_interval",
        "TIME",
        "Time between two looks at the files; a change is loaded when two looks find it the same.",
    )
    .default("2s"),
    Setting::repeated(
        "load_model",
        "NAME",
        "With --model-control explicit: a model of the repository to load at start; * for all of them.",
    ),
    Setting::new(
        "version_policy",
        "POLICY",
        "Versions served of a model whose model.toml does not say: latest:N, all, or specific:N,N.",
    )
    .default("latest:1"),
    Setting::new(
        "ready_without_models",
        "BOOL",
        "Whether the server is ready when the initial load has ended and no model is served. Without it: with \
         --model-control explicit only.",
    ),
    Setting::new(
        "strict_readiness",
        "BOOL",
        "Whether one model of a repository that cannot be served keeps the whole server unready; each model has a \
         readiness of its own in any case.",
    )
    .default("false"),
    Setting::new(
        "onnxruntime",
        "FILE",
        "ONNX Runtime's shared library. Without it: ORT_DYLIB_PATH, beside the executable, where `make setup` puts \
         it, the system's.",
    ),
    Setting::new(
        "optimized_models",
        "DIRECTORY",
        "Where models of 100 nodes and more are kept as ONNX Runtime has optimized them, so that they load two to three \
         times as fast; only the server should be able to write there. Without it: nowhere.",
    ),
    Setting::new("server_name", "NAME", "Name in the server's metadata.").default("plumbline"),
    Setting::new(
        "triton_metrics",
        "BOOL",
        "Whether what is counted is exported under Triton's names (nv_inference_*), too, for its dashboards.",
    )
    .default("false"),
    Setting::new(
        "instances",
        "N",
        "Sessions per model: requests that run side by side. Without it: one per CPU that the process may use, as \
         long as their files together stay below 1 GiB.",
    ),
    Setting::new(
        "max_queue",
        "N",
        "Requests per model that may wait for a session before more are refused with 429.",
    )
    .default("256"),
    Setting::new(
        "request_timeout",
        "TIME",
        "Deadline of requests that bring none; a request that is late is not run, or its run is ended. Without it: none.",
    ),
    Setting::new(
        "max_body_bytes",
        "SIZE",
        "Largest body of a request, before and after decompression; larger ones get 413.",
    )
    .default("64MiB"),
    Setting::new(
        "body_timeout",
        "TIME",
        "Time that a request's body has to arrive, from its head on; slower ones get 408.",
    )
    .default("1m"),
    Setting::new(
        "compress_min_bytes",
        "SIZE",
        "Replies from this size on are compressed for clients that ask for it.",
    )
    .default("1KiB"),
    Setting::new(
        "nan_policy",
        "POLICY",
        "NaN and infinities in JSON replies: null, literal (not JSON, but Python reads it), or error.",
    )
    .default("null"),
    TLS_SETTINGS[0],
    TLS_SETTINGS[1],
    TLS_SETTINGS[2],
    TLS_SETTINGS[3],
];

/// Settings of the model server, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports, logs, drain.
    pub common: Common,
    /// TLS on the data port.
    pub tls: Option<TlsFiles>,
    /// What is served, and who changes it.
    pub repository: RepositoryConfig,
    /// ONNX Runtime's shared library, where somebody named one.
    pub onnxruntime: Option<PathBuf>,
    /// Where optimized models are kept.
    pub optimized_models: Option<PathBuf>,
    /// Name in the server's metadata.
    pub server_name: String,
    /// Whether the metrics have Triton's names, too.
    pub triton_metrics: bool,
    /// Sessions per model; `None` follows the CPUs.
    pub instances: Option<NonZeroUsize>,
    /// Requests per model that may wait.
    pub max_queue: usize,
    /// Deadline of requests that bring none.
    pub request_timeout: Option<Duration>,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// Time that a body has to arrive.
    pub body_timeout: Duration,
    /// Replies from this size on are compressed for clients that ask for it.
    pub compress_min_bytes: usize,
    /// How JSON replies write numbers that JSON does not have.
    pub nan_policy: NanPolicy,
}

/// Where models come from, and what is served of them.
#[derive(Clone, Debug)]
pub struct RepositoryConfig {
    /// Models, each with a name of its own choosing or a given one.
    pub models: Vec<ModelPath>,
    /// A directory of models.
    pub model_repository: Option<PathBuf>,
    /// Who changes what is served.
    pub control: ModelControl,
    /// Time between two looks at the files.
    pub poll_interval: Duration,
    /// Models to load at start in explicit mode.
    pub load_models: Vec<String>,
    /// Versions served of a model that does not say.
    pub version_policy: VersionPolicy,
    /// Whether a server without models is ready.
    pub ready_without_models: bool,
    /// Whether one model that cannot be served keeps the server unready.
    pub strict_readiness: bool,
}

impl RepositoryConfig {
    /// These models, and nobody changes them.
    pub fn fixed(models: Vec<ModelPath>) -> RepositoryConfig {
        RepositoryConfig {
            models,
            model_repository: None,
            control: ModelControl::None,
            poll_interval: Duration::from_secs(2),
            load_models: Vec::new(),
            version_policy: VersionPolicy::default(),
            ready_without_models: false,
            strict_readiness: false,
        }
    }

    /// Every path that models come from.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let of = |path: &ModelPath, kind| Source {
            path: path.clone(),
            kind,
        };
        let models = self.models.iter().map(|path| of(path, SourceKind::Model));
        let repository = self
            .model_repository
            .iter()
            .map(|path| of(&ModelPath::new(path), SourceKind::Repository));
        models.chain(repository).collect()
    }

    fn read(reader: &mut Reader) -> RepositoryConfig {
        let models: Vec<ModelPath> = reader.list("model");
        let mut model_repository = reader.optional("model_repository");
        if models.is_empty() && model_repository.is_none() {
            model_repository = Some(PathBuf::from(DEFAULT_REPOSITORY));
        }
        let control: ModelControl = reader.value("model_control");
        let ready_without_models = reader.optional("ready_without_models");
        let config = RepositoryConfig {
            models,
            model_repository,
            control,
            poll_interval: reader.value("poll_interval"),
            load_models: reader.list("load_model"),
            version_policy: reader.value("version_policy"),
            ready_without_models: ready_without_models.unwrap_or(control == ModelControl::Explicit),
            strict_readiness: reader.value("strict_readiness"),
        };
        reader.check(
            "poll_interval",
            config.poll_interval >= SHORTEST_POLL,
            "must be at least 10ms",
        );
        reader.check(
            "load_model",
            config.load_models.is_empty() || control == ModelControl::Explicit,
            "needs --model-control explicit",
        );
        config
    }
}

/// A look costs a few system calls per model.
const SHORTEST_POLL: Duration = Duration::from_millis(10);

/// Who changes what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelControl {
    /// Nobody after the start.
    None,
    /// Whoever changes the files.
    Poll,
    /// Whoever asks through the `model_repository` extension.
    Explicit,
}

impl fmt::Display for ModelControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelControl::None => "none",
            ModelControl::Poll => "poll",
            ModelControl::Explicit => "explicit",
        })
    }
}

impl ParseSetting for ModelControl {
    fn parse_setting(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => ModelControl::None,
            "poll" => ModelControl::Poll,
            "explicit" => ModelControl::Explicit,
            _ => return Err("expected none, poll or explicit".to_owned()),
        })
    }
}

/// `[NAME=]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPath {
    /// The name to serve it under, where one was given.
    pub name: Option<String>,
    /// A file or a directory.
    pub path: PathBuf,
}

impl ModelPath {
    /// A model that takes its name from its path.
    pub fn new(path: impl Into<PathBuf>) -> ModelPath {
        ModelPath {
            name: None,
            path: path.into(),
        }
    }

    /// A model with a name.
    pub fn named(name: impl Into<String>, path: impl Into<PathBuf>) -> ModelPath {
        ModelPath {
            name: Some(name.into()),
            path: path.into(),
        }
    }
}

impl ParseSetting for ModelPath {
    fn parse_setting(text: &str) -> Result<Self, String> {
        // A path may contain `=` behind a slash; a name contains no slash.
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !name.contains('/') => (Some(name), path),
            _ => (None, text),
        };
        if path.is_empty() || name.is_some_and(str::is_empty) {
            return Err("expected PATH or NAME=PATH".to_owned());
        }
        Ok(ModelPath {
            name: name.map(str::to_owned),
            path: PathBuf::from(path),
        })
    }
}

/// [`NanPolicy`] as a setting.
struct NanSetting(NanPolicy);

impl ParseSetting for NanSetting {
    fn parse_setting(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "null" => NanPolicy::Null,
            "literal" => NanPolicy::Literal,
            "error" => NanPolicy::Error,
            _ => return Err("expected null, literal or error".to_owned()),
        }))
    }
}

impl Config {
    /// Reads and checks the settings.
    pub fn read(reader: &mut Reader) -> (Common, Config) {
        let common = Common::read(reader);
        let NanSetting(nan_policy) = reader.value("nan_policy");
        let config = Config {
            common: common.clone(),
            tls: TlsFiles::read_settings(reader),
            repository: RepositoryConfig::read(reader),
            onnxruntime: reader.optional("onnxruntime"),
            optimized_models: reader.optional("optimized_models"),
            server_name: reader.value("server_name"),
            triton_metrics: reader.value("triton_metrics"),
            instances: reader.optional("instances"),
            max_queue: reader.value("max_queue"),
            request_timeout: reader.optional("request_timeout"),
            max_body_bytes: reader.value::<ByteSize>("max_body_bytes").as_usize(),
            body_timeout: reader.value("body_timeout"),
            compress_min_bytes: reader.value::<ByteSize>("compress_min_bytes").as_usize(),
            nan_policy,
        };
        reader.check(
            "max_body_bytes",
            config.max_body_bytes > 0,
            "must be at least 1 byte",
        );
        reader.check(
            "body_timeout",
            !config.body_timeout.is_zero(),
            "must be longer than 0",
        );
        (common, config)
    }

    /// For tests and `plumbline up`: these models, free ports on loopback, defaults elsewhere.
    pub fn on_loopback(models: Vec<ModelPath>) -> Config {
        Config {
            common: Common::on_loopback(),
            tls: None,
            repository: RepositoryConfig::fixed(models),
            onnxruntime: None,
            optimized_models: None,
            server_name: "plumbline".to_owned(),
            triton_metrics: false,
            instances: None,
            max_queue: 256,
            request_timeout: None,
            max_body_bytes: 64 << 20,
            body_timeout: Duration::from_mins(1),
            compress_min_bytes: 1 << 10,
            nan_policy: NanPolicy::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::{Outcome, load};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, String> {
        let settings: [&[Setting]; 2] = [&Common::settings("0.0.0.0:8082", "0.0.0.0:9903"), SETTINGS];
        let arguments = arguments.iter().map(ToString::to_string);
        let none = std::iter::empty::<(String, String)>();
        match load("model-server", &settings, arguments, none, Config::read) {
            Ok(Outcome::Start {
                config: (_, config), ..
            }) => Ok(config),
            Ok(other) => Err(format!("{other:?}")),
            Err(problems) => Err(problems.to_string()),
        }
    }

    #[test]
    fn without_models_the_place_of_a_pod_is_served() {
        assert_eq!(
            read(&[]).unwrap().repository.model_repository,
            Some(PathBuf::from("/mnt/models"))
        );
        let config = read(&["--model", "churn=/m/model.onnx", "--model", "/a=b/iris.onnx"])
            .unwrap()
            .repository;
        assert_eq!(config.model_repository, None);
        assert_eq!(config.models[0], ModelPath::named("churn", "/m/model.onnx"));
        assert_eq!(config.models[1], ModelPath::new("/a=b/iris.onnx"));
    }

    #[test]
    fn an_empty_server_is_ready_only_where_models_come_by_request() {
        let ready = |arguments: &[&str]| read(arguments).unwrap().repository.ready_without_models;
        assert!(!ready(&[]));
        assert!(!ready(&["--model-control", "poll"]));
        assert!(ready(&["--model-control", "explicit"]));
        assert!(ready(&["--ready-without-models", "true"]));
        let problems = read(&[
            "--load-model",
            "churn",
            "--poll-interval",
            "1ms",
            "--version-policy",
            "newest",
        ]);
        let problems = problems.unwrap_err();
        for part in [
            "3 problems",
            "explicit",
            "at least 10ms",
            "latest:N, all or specific:N,N",
        ] {
            assert!(problems.contains(part), "missing {part:?} in:\n{problems}");
        }
    }

    #[test]
    fn problems_are_told_at_once() {
        let problems = read(&[
            "--model",
            "=x",
            "--nan-policy",
            "none",
            "--instances",
            "0",
            "--max-body-bytes",
            "0",
            "--body-timeout",
            "0s",
        ])
        .unwrap_err();
        for part in [
            "5 problems",
            "PATH or NAME=PATH",
            "null, literal or error",
            "instances",
            "max_body_bytes",
            "body_timeout",
        ] {
            assert!(problems.contains(part), "missing {part:?} in:\n{problems}");
        }
    }
}
