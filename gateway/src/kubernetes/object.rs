//! What all watched objects have, and how one is read that may be malformed.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Where an object is: its namespace and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A kind of object that is watched.
pub(super) trait Kind: Clone + Send + Sync + fmt::Debug + 'static {
    /// Path of its API group and version.
    const API: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;

    /// What we keep of an object; what was wrong with it and where, when it cannot be read.
    fn read(object: Value) -> Result<Self, String>;
}

/// An object as the API server told it. One that cannot be read is still an object: it must not end the watch that
/// the others come with.
#[derive(Clone, Debug)]
pub(super) struct Object<T> {
    pub(super) key: Key,
    /// When it was written, as the API server counts.
    pub(super) version: Box<str>,
    pub(super) content: Result<T, String>,
}

impl<'de, T: Kind> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        Ok(Self {
            key: Key::new(metadata("namespace"), metadata("name")),
            version: metadata("resourceVersion").into(),
            content: T::read(object),
        })
    }
}

/// Reads a value, or tells the path of what was not as expected.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.into_inner());
        format!("{path}: {cause}")
    })
}

/// A field that is `null` is one that is not there.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
