//! Whether files have changed since they were last read, and whether somebody is still writing them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What the file system says about the files of one version, and the settings that it is loaded with.
///
/// Links are followed, so that a Kubernetes volume's swap of `..data` is a change. Equal stamps mean equal files, but
/// for writes within one tick of the file system's clock; unequal ones mean that it is worth reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    files: Vec<Option<FileStamp>>,
    settings: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Tells writes by tools that put the time of modification back.
    changed: (i64, i64),
}

impl Stamp {
    /// Of a model's file and those it refers to; a missing one has a stamp as well.
    pub(super) fn of(file: &Path, others: &[PathBuf], settings: String) -> Stamp {
        let files = std::iter::once(file).chain(others.iter().map(PathBuf::as_path));
        Stamp {
            files: files.map(FileStamp::of).collect(),
            settings,
        }
    }
}

impl FileStamp {
    fn of(path: &Path) -> Option<FileStamp> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// What was seen of a version's files so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When they were last read.
    read: Option<Stamp>,
    /// At the last look.
    seen: Option<Stamp>,
}

/// How two looks compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As they were when they were read.
    Unchanged,
    /// Different from the last look: somebody may be writing.
    Moving,
    /// Different from what was read, and the same as at the last look.
    Settled,
}

impl Watch {
    /// Compares the files with what is known.
    pub(super) fn look(&mut self, now: &Stamp) -> Look {
        if self.read.as_ref() == Some(now) {
            self.seen = None;
            return Look::Unchanged;
        }
        if self.seen.as_ref() == Some(now) {
            return Look::Settled;
        }
        self.seen = Some(now.clone());
        Look::Moving
    }

    /// The files were read as they are at `stamp`.
    pub(super) fn read(&mut self, stamp: Stamp) {
        self.read = Some(stamp);
        self.seen = None;
    }

    /// Has the next look find the files changed, whatever they are.
    pub(super) fn forget(&mut self) {
        *self = Watch::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(file: &Path) -> Stamp {
        Stamp::of(file, &[], String::new())
    }

    #[test]
    fn a_file_is_read_when_two_looks_agree() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.onnx");
        let mut watch = Watch::default();
        std::fs::write(&file, b"half").unwrap();
        assert_eq!(watch.look(&stamp(&file)), Look::Moving);
        std::fs::write(&file, b"half and half").unwrap();
        assert_eq!(watch.look(&stamp(&file)), Look::Moving);
        assert_eq!(watch.look(&stamp(&file)), Look::Settled);
        watch.read(stamp(&file));
        assert_eq!(watch.look(&stamp(&file)), Look::Unchanged);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(watch.look(&stamp(&file)), Look::Moving);
        assert_eq!(watch.look(&stamp(&file)), Look::Settled);
    }

    #[test]
    fn a_link_that_is_turned_to_another_file_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("..1"), directory.path().join("..2"));
        for data in [&one, &two] {
            std::fs::create_dir(data).unwrap();
            std::fs::write(data.join("model.onnx"), b"the same").unwrap();
        }
        let (link, data) = (
            directory.path().join("model.onnx"),
            directory.path().join("..data"),
        );
        std::os::unix::fs::symlink(&one, &data).unwrap();
        std::os::unix::fs::symlink("..data/model.onnx", &link).unwrap();
        let before = stamp(&link);
        let new = directory.path().join("..new");
        std::os::unix::fs::symlink(&two, &new).unwrap();
        std::fs::rename(&new, &data).unwrap();
        assert_ne!(before, stamp(&link));
    }

    #[test]
    fn settings_and_further_files_count() {
        let directory = tempfile::tempdir().unwrap();
        let (file, weights) = (
            directory.path().join("model.onnx"),
            directory.path().join("weights.bin"),
        );
        std::fs::write(&file, b"model").unwrap();
        let before = Stamp::of(&file, std::slice::from_ref(&weights), String::new());
        assert_ne!(
            before,
            Stamp::of(&file, std::slice::from_ref(&weights), "instances = 2".into())
        );
        std::fs::write(&weights, b"weights").unwrap();
        assert_ne!(
            before,
            Stamp::of(&file, std::slice::from_ref(&weights), String::new())
        );
    }
}
