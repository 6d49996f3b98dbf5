//! Settings of the model server.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use plumbline_inference_protocol::NanPolicy;
use plumbline_service::config::{ByteSize, Common, ParseSetting, Reader, Setting};

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
        "onnxruntime",
        "FILE",
        "ONNX Runtime's shared library. Without it: ORT_DYLIB_PATH, beside the executable, where `make setup` puts \
         it, the system's.",
    ),
    Setting::new("server_name", "NAME", "Name in the server's metadata.").default("plumbline"),
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
        "max_body_bytes",
        "SIZE",
        "Largest body of a request; larger ones get 413.",
    )
    .default("64MiB"),
    Setting::new(
        "nan_policy",
        "POLICY",
        "NaN and infinities in JSON replies: null, literal (not JSON, but Python reads it), or error.",
    )
    .default("null"),
];

/// Settings of the model server, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ports, logs, drain.
    pub common: Common,
    /// Models, each with a name of its own choosing or a given one.
    pub models: Vec<ModelPath>,
    /// A directory of models.
    pub model_repository: Option<PathBuf>,
    /// ONNX Runtime's shared library, where somebody named one.
    pub onnxruntime: Option<PathBuf>,
    /// Name in the server's metadata.
    pub server_name: String,
    /// Sessions per model; `None` follows the CPUs.
    pub instances: Option<NonZeroUsize>,
    /// Requests per model that may wait.
    pub max_queue: usize,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// How JSON replies write numbers that JSON does not have.
    pub nan_policy: NanPolicy,
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
        let models = reader.list("model");
        let mut model_repository = reader.optional("model_repository");
        if models.is_empty() && model_repository.is_none() {
            model_repository = Some(PathBuf::from(DEFAULT_REPOSITORY));
        }
        let NanSetting(nan_policy) = reader.value("nan_policy");
        let config = Config {
            common: common.clone(),
            models,
            model_repository,
            onnxruntime: reader.optional("onnxruntime"),
            server_name: reader.value("server_name"),
            instances: reader.optional("instances"),
            max_queue: reader.value("max_queue"),
            max_body_bytes: reader.value::<ByteSize>("max_body_bytes").as_usize(),
            nan_policy,
        };
        reader.check(
            "max_body_bytes",
            config.max_body_bytes > 0,
            "must be at least 1 byte",
        );
        (common, config)
    }

    /// For tests and `plumbline up`: these models, free ports on loopback, defaults elsewhere.
    pub fn on_loopback(models: Vec<ModelPath>) -> Config {
        Config {
            common: Common::on_loopback(),
            models,
            model_repository: None,
            onnxruntime: None,
            server_name: "plumbline".to_owned(),
            instances: None,
            max_queue: 256,
            max_body_bytes: 64 << 20,
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
            read(&[]).unwrap().model_repository,
            Some(PathBuf::from("/mnt/models"))
        );
        let config = read(&["--model", "churn=/m/model.onnx", "--model", "/a=b/iris.onnx"]).unwrap();
        assert_eq!(config.model_repository, None);
        assert_eq!(config.models[0], ModelPath::named("churn", "/m/model.onnx"));
        assert_eq!(config.models[1], ModelPath::new("/a=b/iris.onnx"));
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
        ])
        .unwrap_err();
        for part in [
            "4 problems",
            "PATH or NAME=PATH",
            "null, literal or error",
            "instances",
            "max_body_bytes",
        ] {
            assert!(problems.contains(part), "missing {part:?} in:\n{problems}");
        }
    }
}
