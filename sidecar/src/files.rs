//! Names of files in the state directory: one per model, version and kind.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a name keeps of a model's: nothing that separates directories or parts of the name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The file of a model; `kind` is its ending.
pub(crate) fn path(directory: &Path, model: &str, version: &str, kind: &str) -> PathBuf {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    directory.join(format!("{}@{}.{kind}", encoded(model), encoded(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_model_leaves_the_directory() {
        let directory = Path::new("/state");
        assert_eq!(
            path(directory, "churn", "3", "state"),
            Path::new("/state/churn@3.state")
        );
        let odd = path(directory, "../a/b@c", ".", "state");
        assert_eq!(odd, Path::new("/state/%2E%2E%2Fa%2Fb%40c@%2E.state"));
    }
}
