//! Files that may be replaced while the gateway runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plumbline_service::{Settling, Shutdown, Stamp};

/// Time between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Largest file that is read: more than 100,000 keys.
const MAX_BYTES: u64 = 32 << 20;

/// A file, and what it was when it was last read.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    stamp: Settling<Option<Stamp>>,
}

impl WatchedFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// What keeps it from being read, for a person.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<u8>), String> {
        let stamp = Settling::new(Stamp::of(path));
        let content = content(path)?;
        let path = path.to_owned();
        Ok((Self { path, stamp }, content))
    }

    /// The new content, once two looks in a row have found the same; of each, once, good or bad. A file that is gone is waited for.
    fn look(&mut self) -> Option<Result<Vec<u8>, String>> {
        self.stamp.changed(Stamp::of(&self.path))?;
        self.stamp.seen().is_some().then(|| content(&self.path))
    }

    /// Gives `changed` each new content until listeners close.
    pub(crate) async fn watch(mut self, shutdown: Shutdown, changed: impl Fn(Result<Vec<u8>, String>)) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = shutdown.stop_accepting() => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                let content = self.look();
                (self, content)
            });
            let content;
            (self, content) = match looked.await {
                Ok(looked) => looked,
                // A panic would be a mistake of ours; what was read before is still used.
                Err(_panicked) => return,
            };
            if let Some(content) = content {
                changed(content);
            }
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let place = path.display();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            Err(format!("{place}: expected at most {MAX_BYTES} bytes"))
        }
        _ => std::fs::read(path).map_err(|error| format!("cannot read {place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_once_it_has_stayed_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.toml");
        assert!(WatchedFile::open(&path).is_err());
        std::fs::write(&path, "one").expect("written");
        let (mut file, first) = WatchedFile::open(&path).expect("read");
        assert_eq!(first, b"one");
        assert_eq!(file.look(), None);
        std::fs::write(&path, "two, half").expect("written");
        assert_eq!(file.look(), None, "it may be half of it");
        std::fs::write(&path, "two, and whole").expect("written");
        assert_eq!(file.look(), None, "it has changed again");
        assert_eq!(file.look(), Some(Ok(b"two, and whole".to_vec())));
        assert_eq!(file.look(), None, "once");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(
            (file.look(), file.look()),
            (None, None),
            "what is gone is waited for"
        );
        std::fs::write(&path, "three").expect("written");
        assert_eq!((file.look(), file.look()), (None, Some(Ok(b"three".to_vec()))));
    }
}
