//! Files that are looked at again and again: when they have changed, and when the change is complete.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What changes with the content of a file; a mounted volume swaps links, which changes the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of the file as it is now; nothing when it is not there.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Notices a change when two looks in a row find the same, so that a file that is being copied is not read by half.
#[derive(Debug)]
pub struct Settling<T> {
    /// As it was read last.
    read: T,
    /// As it was seen last.
    seen: T,
}

impl<T: PartialEq + Clone> Settling<T> {
    /// Begins with what has been read.
    pub fn new(read: T) -> Self {
        let seen = read.clone();
        Self { read, seen }
    }

    /// Looks at what there is now. When it has to be read, what was read before is returned.
    pub fn changed(&mut self, now: T) -> Option<T> {
        let settled = now == self.seen;
        self.seen = now;
        if !settled || self.seen == self.read {
            return None;
        }
        Some(std::mem::replace(&mut self.read, self.seen.clone()))
    }

    /// What there was at the last look.
    pub fn seen(&self) -> &T {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_is_complete() {
        let mut file = Settling::new(1);
        assert_eq!(file.changed(1), None, "as it was");
        assert_eq!(file.changed(2), None, "it may still be copied");
        assert_eq!(file.changed(3), None, "it was");
        assert_eq!(file.changed(3), Some(1));
        assert_eq!(file.changed(3), None, "each content is told once");
        assert_eq!(
            (file.changed(4), file.changed(3)),
            (None, None),
            "back as it was read"
        );
        assert_eq!(file.changed(3), None);
    }

    #[test]
    fn a_volume_that_swaps_links_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for volume in ["..1", "..2"] {
            std::fs::create_dir(path(volume)).expect("created");
            std::fs::write(path(volume).join("file"), "same").expect("written");
        }
        std::os::unix::fs::symlink("..1", path("..data")).expect("linked");
        std::os::unix::fs::symlink("..data/file", path("file")).expect("linked");
        let before = Stamp::of(&path("file"));
        assert_eq!(Stamp::of(&path("file")), before);
        std::os::unix::fs::symlink("..2", path("..next")).expect("linked");
        std::fs::rename(path("..next"), path("..data")).expect("swapped");
        assert_ne!(Stamp::of(&path("file")), before);
        assert_eq!(Stamp::of(&path("nothing")), None);
    }
}
