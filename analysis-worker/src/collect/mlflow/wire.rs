//! Answers of the API; what is not read is left out, and what may be missing has a default.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Versions {
    #[serde(default)]
    pub(super) model_versions: Vec<Version>,
}

#[derive(Clone, Deserialize)]
pub(super) struct Version {
    #[serde(rename = "version")]
    pub(super) number: String,
    #[serde(default)]
    pub(super) run_id: String,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) creation_timestamp: Value,
    #[serde(default)]
    pub(super) tags: Vec<Pair>,
}

#[derive(Deserialize)]
pub(super) struct RegisteredModel {
    pub(super) registered_model: Registered,
}

#[derive(Deserialize)]
pub(super) struct Registered {
    #[serde(default)]
    pub(super) aliases: Vec<Alias>,
}

#[derive(Clone, Deserialize)]
pub(super) struct Alias {
    pub(super) alias: String,
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct RunAnswer {
    pub(super) run: Run,
}

#[derive(Deserialize)]
pub(super) struct Run {
    pub(super) info: Info,
    #[serde(default)]
    pub(super) data: Data,
}

#[derive(Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub(super) run_name: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) start_time: Value,
    #[serde(default)]
    pub(super) end_time: Value,
}

#[derive(Default, Deserialize)]
pub(super) struct Data {
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
    #[serde(default)]
    pub(super) params: Vec<Pair>,
    #[serde(default)]
    pub(super) tags: Vec<Pair>,
}

#[derive(Deserialize)]
pub(super) struct Metric {
    pub(super) key: String,
    /// A number, or `NaN` and infinities as texts.
    pub(super) value: Value,
}

#[derive(Clone, Deserialize)]
pub(super) struct Pair {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}
