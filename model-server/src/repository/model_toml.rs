//! `model.toml` beside a model: what the graph does not say.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::policy::VersionPolicy;

/// Settings of one model; every one of them is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelToml {
    /// The name to serve it under; `--model NAME=PATH` goes first.
    pub(super) name: Option<String>,
    /// Sessions: requests that run side by side.
    pub(super) instances: Option<NonZeroUsize>,
    /// Whether to run it with zeros before it is ready; yes, unless it cannot run with zeros.
    pub(super) warmup: Option<bool>,
    /// Which versions are served; without it, the server's `--version-policy`.
    pub(super) version_policy: Option<VersionPolicy>,
    /// Requests that may wait when all sessions are busy; without it, the server's `--max-queue`.
    pub(super) max_queue: Option<usize>,
    /// Urgency of requests that tell none, 1 the most urgent; without it, they come after all that tell one.
    pub(super) default_priority: Option<NonZeroU32>,
    /// Whether runs happen on network threads; decided by measurement without it.
    pub(super) in_place: Option<bool>,
    /// How requests share executions.
    #[serde(default)]
    pub(super) batching: Batching,
    /// Names of the classes behind the last dimension of an output, by output.
    #[serde(default)]
    pub(super) class_labels: BTreeMap<String, Vec<String>>,
}

/// `[batching]`: what is decided by measurement without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batching {
    /// Whether requests may share an execution, and a large one may be split. Without it: where the first runs show
    /// that rows do not depend on each other.
    pub(super) enabled: Option<bool>,
    /// Rows to gather at most; without it, as many as the measured cost says pay.
    pub(super) rows: Option<NonZeroUsize>,
    /// The most rows of an execution; a request of more is split.
    pub(super) max_rows: Option<NonZeroUsize>,
}

/// A `model.toml` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct ModelTomlError {
    path: PathBuf,
    problem: String,
}

impl ModelToml {
    /// What decides how a version is loaded, as a text that changes with it: comments and the choice of versions do
    /// not.
    pub(super) fn for_loading(&self) -> String {
        let settings = ModelToml {
            version_policy: None,
            ..self.clone()
        };
        format!("{settings:?}")
    }

    /// Reads the file in `directory`; without one, every setting is unset.
    pub(super) fn read(directory: &Path) -> Result<ModelToml, ModelTomlError> {
        let path = directory.join("model.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ModelToml::default()),
            Err(error) => {
                return Err(ModelTomlError {
                    path,
                    problem: error.to_string(),
                });
            }
        };
        ModelToml::parse(&text).map_err(|problem| ModelTomlError { path, problem })
    }

    /// Reads the text of a file, or tells in which line it is wrong.
    pub(crate) fn parse(text: &str) -> Result<ModelToml, String> {
        toml::from_str(text).map_err(|error| {
            // The place in one line instead of the parser's drawing.
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].split(|&byte| byte == b'\n').count();
            format!("line {line}: {}", error.message())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_bad_values_are_refused_with_their_line() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ModelToml::read(directory.path()), Ok(ModelToml::default()));
        let write = |text: &str| std::fs::write(directory.path().join("model.toml"), text).unwrap();
        write("name = \"churn\"\n[class_labels]\np = [\"no\", \"yes\"]\n");
        assert_eq!(
            ModelToml::read(directory.path()).unwrap().class_labels["p"],
            ["no", "yes"]
        );
        for (text, problem) in [
            ("name = \"x\"\ninstnces = 2\n", "line 2: unknown field `instnces`"),
            ("instances = 0\n", "line 1: "),
            ("default_priority = 0\n", "line 1: "),
            ("max_queue = 1\n[batching]\nmax_rows = 0\n", "line 3: "),
            ("[batching]\nsize = 8\n", "line 2: unknown field `size`"),
            ("warmup = \n", "line 1: "),
        ] {
            write(text);
            let error = ModelToml::read(directory.path()).unwrap_err().to_string();
            assert!(
                error.contains("model.toml: ") && error.contains(problem),
                "{error}"
            );
        }
    }
}
