//! Files of the state directory: one per model, version and kind, written whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a name keeps of a model's: nothing that separates directories or parts of the name.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The file of a model; `kind` is its ending.
pub(crate) fn path(directory: &Path, model: &str, version: &str, kind: &str) -> PathBuf {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    directory.join(format!("{}@{}.{kind}", encoded(model), encoded(version)))
}

/// Writes a file that is whole after a crash, or as it was.
///
/// # Errors
/// The system's; then the file is as it was.
pub(crate) fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut out = std::fs::File::create(&unfinished)?;
    out.write_all(content)?;
    out.sync_data()?;
    std::fs::rename(unfinished, path)
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

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = path(directory.path(), "churn", "3", "state");
        write(&file, b"long content").expect("written");
        write(&file, b"short").expect("written");
        assert_eq!(std::fs::read(&file).expect("read"), b"short");
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("a directory").count(),
            1
        );
        assert!(write(Path::new("/nonexistent/a.state"), b"").is_err());
    }
}
