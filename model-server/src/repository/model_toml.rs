//! `model.toml` beside a model: what the graph does not say.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
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
    /// Names of the classes behind the last dimension of an output, by output.
    #[serde(default)]
    pub(super) class_labels: BTreeMap<String, Vec<String>>,
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
        toml::from_str(&text).map_err(|error| {
            // The place in one line instead of the parser's drawing.
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].split(|&byte| byte == b'\n').count();
            ModelTomlError {
                path,
                problem: format!("line {line}: {}", error.message()),
            }
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
