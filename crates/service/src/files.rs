//! Files of a state directory, written whole or not at all.

use std::io::Write as _;
use std::path::Path;

/// Writes a file that is whole after a crash, or as it was.
///
/// # Errors
/// The system's; then the file is as it was.
pub fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
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
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("churn.state");
        write_whole(&file, b"long content").expect("written");
        write_whole(&file, b"short").expect("written");
        assert_eq!(std::fs::read(&file).expect("read"), b"short");
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("a directory").count(),
            1
        );
        assert!(write_whole(Path::new("/nonexistent/a.state"), b"").is_err());
    }
}
