//! What a load by request brings along: files, and a configuration in Triton's words.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use bytes::Bytes;
use plumbline_inference_protocol::{Datatype, ModelSignature, TensorSpec};
use serde::Deserialize;

use super::LoadParameters;
use super::model_toml::ModelToml;
use super::policy::VersionPolicy;

/// The parameters of a load, checked.
#[derive(Debug, Default)]
pub(super) struct Given {
    config: Option<Config>,
    /// Files by version and name; empty when those of the repository are loaded.
    pub(super) files: BTreeMap<u64, BTreeMap<String, Bytes>>,
}

impl Given {
    /// Reads the parameters of a load of `model`.
    ///
    /// # Errors
    /// One sentence for whoever sent them.
    pub(super) fn read(model: &str, parameters: &LoadParameters) -> Result<Given, String> {
        let mut given = Given::default();
        for (path, bytes) in &parameters.files {
            let path = path.strip_prefix("file:").unwrap_or(path);
            let parts = path.split_once('/');
            let parts = parts.and_then(|(version, name)| Some((version.parse().ok()?, name)));
            let Some((version, name)) = parts.filter(|(_, name): &(u64, &str)| !name.is_empty()) else {
                return Err(format!(
                    "parameter `file:{path}`: expected file:<version>/<name>, such as file:1/model.onnx"
                ));
            };
            let files = given.files.entry(version).or_default();
            if files.insert(name.to_owned(), bytes.clone()).is_some() {
                return Err(format!("parameter `file:{path}` is given twice"));
            }
        }
        if let Some(text) = &parameters.config {
            let config = serde_json::from_str::<Config>(text).map_err(|error| error.to_string());
            let config = config.and_then(|config| config.check(model).map(|()| config));
            given.config = Some(config.map_err(|error| format!("parameter `config`: {error}"))?);
        }
        Ok(given)
    }

    /// The model's settings with those of the request in front.
    pub(super) fn over(&self, mut toml: ModelToml) -> ModelToml {
        let Some(config) = &self.config else { return toml };
        if let Some(policy) = &config.version_policy {
            toml.version_policy = Some(policy.clone().into());
        }
        if let Some(count) = config.instances() {
            toml.instances = Some(count);
        }
        if let Some(Number(size)) = config.max_batch_size {
            // Triton's 0 says that rows of several requests do not go together.
            toml.batching.max_rows = size.try_into().ok().and_then(NonZeroUsize::new);
            if size == 0 {
                toml.batching.enabled = Some(false);
            }
        }
        if let Some(batching) = &config.dynamic_batching {
            let largest = batching
                .preferred_batch_size
                .iter()
                .map(|Number(size)| *size)
                .max();
            let largest = largest.and_then(|size| NonZeroUsize::new(size.try_into().ok()?));
            toml.batching.rows = largest.or(toml.batching.rows);
            let queue = &batching.default_queue_policy.max_queue_size;
            let queue = queue.and_then(|Number(size)| size.try_into().ok());
            toml.max_queue = queue.filter(|size| *size > 0).or(toml.max_queue);
            let priority = batching.default_priority_level;
            let priority = priority.and_then(|Number(level)| NonZeroU32::new(level.try_into().ok()?));
            toml.default_priority = priority.or(toml.default_priority);
        }
        toml
    }

    /// What the configuration says about inputs and outputs, and the model does not have.
    pub(super) fn contradiction(&self, signature: &ModelSignature) -> Option<String> {
        let config = self.config.as_ref()?;
        let rows = config.max_batch_size.is_some_and(|Number(size)| size > 0);
        let sides = [
            ("input", &config.input, &signature.inputs),
            ("output", &config.output, &signature.outputs),
        ];
        sides.into_iter().find_map(|(side, declared, specs)| {
            declared
                .iter()
                .find_map(|declared| declared.contradiction(side, specs, rows))
        })
    }
}

/// The parts of Triton's `ModelConfig` that mean something here; any other is refused by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    name: String,
    platform: String,
    backend: String,
    #[serde(alias = "maxBatchSize")]
    max_batch_size: Option<Number>,
    #[serde(alias = "versionPolicy")]
    version_policy: Option<Policy>,
    #[serde(alias = "instanceGroup")]
    instance_group: Vec<InstanceGroup>,
    #[serde(alias = "dynamicBatching")]
    dynamic_batching: Option<DynamicBatching>,
    input: Vec<Declared>,
    output: Vec<Declared>,
}

/// A number, also as the text that JSON of protocol buffers has for 64 bits.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "NumberForm")]
struct Number(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberForm {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberForm> for Number {
    type Error = &'static str;

    fn try_from(form: NumberForm) -> Result<Number, Self::Error> {
        match form {
            NumberForm::Number(number) => Ok(Number(number)),
            NumberForm::Text(text) => text.parse().map(Number).map_err(|_| "expected a whole number"),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Policy {
    Latest {
        #[serde(alias = "numVersions")]
        num_versions: Number,
    },
    All {},
    Specific {
        versions: Vec<Number>,
    },
}

impl From<Policy> for VersionPolicy {
    fn from(policy: Policy) -> VersionPolicy {
        match policy {
            Policy::Latest {
                num_versions: Number(count),
            } => {
                let count = count.try_into().unwrap_or(usize::MAX);
                VersionPolicy::Latest(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
            }
            Policy::All {} => VersionPolicy::All,
            Policy::Specific { versions } => {
                VersionPolicy::Specific(versions.into_iter().map(|Number(version)| version).collect())
            }
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct InstanceGroup {
    #[serde(rename = "name")]
    _name: String,
    kind: String,
    count: Option<Number>,
}

/// Batches form from what queues, without a timer: a delay has nothing to act on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DynamicBatching {
    #[serde(alias = "preferredBatchSize")]
    preferred_batch_size: Vec<Number>,
    #[serde(alias = "defaultPriorityLevel")]
    default_priority_level: Option<Number>,
    #[serde(alias = "defaultQueuePolicy")]
    default_queue_policy: QueuePolicy,
    #[serde(rename = "max_queue_delay_microseconds", alias = "maxQueueDelayMicroseconds")]
    _max_queue_delay_microseconds: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QueuePolicy {
    #[serde(alias = "maxQueueSize")]
    max_queue_size: Option<Number>,
}

/// An input or output.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Declared {
    name: String,
    #[serde(alias = "dataType")]
    data_type: String,
    dims: Vec<Dimension>,
    #[serde(rename = "optional")]
    _optional: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "DimensionForm")]
struct Dimension(i64);

#[derive(Deserialize)]
#[serde(untagged)]
enum DimensionForm {
    Number(i64),
    Text(String),
}

impl TryFrom<DimensionForm> for Dimension {
    type Error = &'static str;

    fn try_from(form: DimensionForm) -> Result<Dimension, Self::Error> {
        match form {
            DimensionForm::Number(number) => Ok(Dimension(number)),
            DimensionForm::Text(text) => text.parse().map(Dimension).map_err(|_| "expected a dimension"),
        }
    }
}

impl Config {
    /// Whether it is one of a model that this server runs.
    fn check(&self, model: &str) -> Result<(), String> {
        if !self.name.is_empty() && self.name != model {
            return Err(format!("name: expected `{model}`, got `{}`", self.name));
        }
        for (key, value, expected) in [
            ("platform", &self.platform, "onnxruntime_onnx"),
            ("backend", &self.backend, "onnxruntime"),
        ] {
            if !value.is_empty() && value != expected {
                return Err(format!("{key}: expected `{expected}`, got `{value}`"));
            }
        }
        for InstanceGroup { kind, count, .. } in &self.instance_group {
            if !matches!(kind.as_str(), "" | "KIND_AUTO" | "KIND_CPU") {
                return Err(format!(
                    "instance_group: expected KIND_CPU or KIND_AUTO, got `{kind}`"
                ));
            }
            if count.is_some_and(|Number(count)| count == 0 || count > MOST_INSTANCES) {
                return Err(format!(
                    "instance_group: expected a count from 1 to {MOST_INSTANCES}"
                ));
            }
        }
        let serves_none = match &self.version_policy {
            Some(Policy::Specific { versions }) => versions.is_empty(),
            Some(Policy::Latest {
                num_versions: Number(count),
            }) => *count == 0,
            Some(Policy::All {}) | None => false,
        };
        if serves_none {
            return Err("version_policy: expected at least one version".to_owned());
        }
        Ok(())
    }

    fn instances(&self) -> Option<NonZeroUsize> {
        let counts = self.instance_group.iter();
        let sum: u64 = counts
            .map(|group| group.count.map_or(1, |Number(count)| count))
            .sum();
        NonZeroUsize::new(usize::try_from(sum).ok()?)
    }
}

/// Each instance is a session with weights of its own.
const MOST_INSTANCES: u64 = 1_024;

impl Declared {
    fn contradiction(&self, side: &str, specs: &[TensorSpec], rows: bool) -> Option<String> {
        let name = &self.name;
        let Some(spec) = specs.iter().find(|spec| spec.name == *name) else {
            return Some(format!("the model has no {side} `{name}`"));
        };
        let datatype = type_name(spec.datatype);
        if !self.data_type.is_empty() && self.data_type != datatype {
            return Some(format!(
                "{side} `{name}`: expected data_type {datatype}, got {}",
                self.data_type
            ));
        }
        // Triton leaves the dimension of rows out of models that have one.
        let dimensions = spec.shape.dimensions();
        let own = if rows && dimensions.len() == self.dims.len() + 1 {
            &dimensions[1..]
        } else {
            dimensions
        };
        let fits = own.len() == self.dims.len()
            && own
                .iter()
                .zip(&self.dims)
                .all(|(own, Dimension(declared))| *own == -1 || *declared == -1 || own == declared);
        if self.dims.is_empty() || fits {
            return None;
        }
        let declared: Vec<i64> = self.dims.iter().map(|Dimension(dimension)| *dimension).collect();
        Some(format!(
            "{side} `{name}`: expected dims {own:?}, got {declared:?}"
        ))
    }
}

/// A datatype as Triton's configurations spell it.
fn type_name(datatype: Datatype) -> String {
    match datatype {
        Datatype::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}

#[cfg(test)]
mod tests {
    use plumbline_inference_protocol::Shape;

    use super::*;

    fn read(config: &str) -> Result<Given, String> {
        let parameters = LoadParameters {
            config: Some(config.to_owned()),
            files: Vec::new(),
        };
        Given::read("churn", &parameters)
    }

    #[test]
    fn a_configuration_goes_before_the_models_own() {
        let given = read(
            r#"{"name": "churn", "backend": "onnxruntime", "maxBatchSize": 8,
                "dynamic_batching": {"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 100,
                                     "default_priority_level": 2, "default_queue_policy": {"max_queue_size": "9"}},
                "version_policy": {"specific": {"versions": ["1", 3]}},
                "instance_group": [{"count": "2", "kind": "KIND_CPU"}, {"name": "more"}]}"#,
        )
        .unwrap();
        let own = ModelToml {
            warmup: Some(false),
            ..ModelToml::default()
        };
        let toml = given.over(own);
        assert_eq!(toml.version_policy, Some(VersionPolicy::Specific(vec![1, 3])));
        assert_eq!(toml.instances, NonZeroUsize::new(3));
        assert_eq!(toml.warmup, Some(false));
        assert_eq!(toml.batching.max_rows, NonZeroUsize::new(8));
        assert_eq!(toml.batching.rows, NonZeroUsize::new(4));
        assert_eq!(toml.batching.enabled, None);
        assert_eq!(
            (toml.max_queue, toml.default_priority),
            (Some(9), NonZeroU32::new(2))
        );
        let toml = read(r#"{"max_batch_size": 0}"#).unwrap().over(toml);
        assert_eq!(
            (toml.batching.enabled, toml.batching.max_rows),
            (Some(false), None)
        );
        let latest = read(r#"{"version_policy": {"latest": {"num_versions": 2}}}"#).unwrap();
        let toml = latest.over(ModelToml::default());
        assert_eq!(
            toml.version_policy,
            NonZeroUsize::new(2).map(VersionPolicy::Latest)
        );
        assert_eq!(toml.instances, None);
    }

    #[test]
    fn what_means_nothing_here_is_refused_by_name() {
        for (config, part) in [
            ("{", "EOF"),
            (r#"{"optimization": {}}"#, "unknown field `optimization`"),
            (r#"{"name": "iris"}"#, "expected `churn`, got `iris`"),
            (
                r#"{"backend": "python"}"#,
                "backend: expected `onnxruntime`, got `python`",
            ),
            (r#"{"instance_group": [{"kind": "KIND_GPU"}]}"#, "KIND_GPU"),
            (r#"{"instance_group": [{"count": 0}]}"#, "count from 1"),
            (
                r#"{"version_policy": {"specific": {"versions": []}}}"#,
                "at least one",
            ),
            (
                r#"{"version_policy": {"newest": {}}}"#,
                "unknown variant `newest`",
            ),
        ] {
            let error = read(config).unwrap_err();
            assert!(
                error.starts_with("parameter `config`: ") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn files_have_a_version_and_a_name() {
        let read = |paths: &[&str]| {
            let files = paths
                .iter()
                .map(|path| ((*path).to_owned(), Bytes::from_static(b"x")));
            let parameters = LoadParameters {
                config: None,
                files: files.collect(),
            };
            Given::read("churn", &parameters)
        };
        let given = read(&["1/model.onnx", "file:1/w.bin", "2/model.onnx"]).unwrap();
        assert_eq!(given.files[&1].len(), 2);
        assert_eq!(given.files[&2].len(), 1);
        for bad in ["model.onnx", "x/model.onnx", "1/"] {
            assert!(
                read(&[bad])
                    .unwrap_err()
                    .contains("expected file:<version>/<name>")
            );
        }
        assert!(
            read(&["1/m.onnx", "file:1/m.onnx"])
                .unwrap_err()
                .contains("twice")
        );
    }

    #[test]
    fn declared_tensors_have_to_be_the_models() {
        let signature = ModelSignature {
            model: "churn".to_owned(),
            inputs: vec![TensorSpec::new("x", Datatype::Fp32, Shape::from([-1, 4]))],
            outputs: vec![TensorSpec::new("y", Datatype::Bytes, Shape::from([-1]))],
            ..ModelSignature::default()
        };
        let told = |config: &str| read(config).unwrap().contradiction(&signature);
        let fits = r#"{"max_batch_size": 8, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
                       "output": [{"name": "y", "data_type": "TYPE_STRING", "dims": ["-1"]}]}"#;
        assert_eq!(told(fits), None);
        assert_eq!(told(r#"{"input": [{"name": "x", "dims": [-1, 4]}]}"#), None);
        for (config, part) in [
            (r#"{"input": [{"name": "z"}]}"#, "no input `z`"),
            (
                r#"{"input": [{"name": "x", "data_type": "TYPE_INT64"}]}"#,
                "expected data_type TYPE_FP32",
            ),
            (
                r#"{"input": [{"name": "x", "dims": [-1, 5]}]}"#,
                "expected dims [-1, 4], got [-1, 5]",
            ),
        ] {
            let error = told(config).unwrap();
            assert!(error.contains(part), "{error}");
        }
    }
}
