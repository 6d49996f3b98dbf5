//! The bytes of one version of a model, read whole and known by their digest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::LoadProblem;
use crate::onnx;
use crate::session::External;

/// SHA-256 of everything that a version is made of: touching a file does not change it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a version is made of. Clones share the bytes.
#[derive(Clone)]
pub(super) struct Content {
    /// The model's file; `None` when it came with a request.
    pub(super) file: Option<PathBuf>,
    pub(super) onnx: Bytes,
    /// Files that it keeps weights in.
    pub(super) external: Vec<External>,
    pub(super) digest: Digest,
}

impl Content {
    /// Reads the model at `file` and the files that it refers to; `settings` are what its `model.toml` says about
    /// loading.
    ///
    /// # Errors
    /// [`LoadProblem::Read`], [`LoadProblem::External`].
    pub(super) fn read(file: &Path, settings: &str) -> Result<Content, LoadProblem> {
        let onnx = Bytes::from(std::fs::read(file).map_err(LoadProblem::Read)?);
        let directory = directory_of(file);
        let external = |name: String| {
            let failed = |problem: String| LoadProblem::External {
                name: name.clone(),
                problem,
            };
            let path = inside(directory, &name).ok_or_else(|| failed(OUTSIDE.to_owned()))?;
            let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            Ok(External {
                name,
                bytes: bytes.into(),
            })
        };
        let external = onnx::external_files(&onnx).into_iter().map(external);
        let external: Vec<External> = external.collect::<Result<_, LoadProblem>>()?;
        Ok(Content::new(Some(file.to_owned()), onnx, external, settings))
    }

    /// Of the model `onnx` and files beside it that came with a request.
    ///
    /// # Errors
    /// [`LoadProblem::External`].
    pub(super) fn of_request(
        onnx: &Bytes,
        beside: &BTreeMap<String, Bytes>,
        settings: &str,
    ) -> Result<Content, LoadProblem> {
        let external = |name: String| match beside.get(&name) {
            Some(bytes) => Ok(External {
                name,
                bytes: Arc::from(&bytes[..]),
            }),
            None => Err(LoadProblem::External {
                name,
                problem: "it is not among the files of the request".to_owned(),
            }),
        };
        let external = onnx::external_files(onnx).into_iter().map(external);
        let external: Vec<External> = external.collect::<Result<_, LoadProblem>>()?;
        Ok(Content::new(None, onnx.clone(), external, settings))
    }

    fn new(file: Option<PathBuf>, onnx: Bytes, external: Vec<External>, settings: &str) -> Content {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(settings.as_bytes());
        add(&onnx);
        for External { name, bytes } in &external {
            add(name.as_bytes());
            add(bytes);
        }
        Content {
            file,
            onnx,
            external,
            digest: Digest(digest.finalize().into()),
        }
    }

    /// The same once more, for a session that has to be made again.
    ///
    /// # Errors
    /// One sentence: the files are gone, or others now.
    pub(super) fn again(&self, settings: &str) -> Result<Content, String> {
        let Some(file) = &self.file else {
            return Ok(self.clone());
        };
        let now = Content::read(file, settings).map_err(|error| error.to_string())?;
        if now.digest == self.digest {
            Ok(now)
        } else {
            Err(format!("{} is another model now", file.display()))
        }
    }

    /// Keeps what is needed to read it again.
    pub(super) fn reference(&self) -> Content {
        match &self.file {
            Some(file) => Content {
                file: Some(file.clone()),
                onnx: Bytes::new(),
                external: Vec::new(),
                digest: self.digest,
            },
            None => self.clone(),
        }
    }

    /// Files that it refers to.
    pub(super) fn others(&self) -> Vec<PathBuf> {
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let names = self.external.iter();
        names
            .map(|external| directory_of(file).join(&external.name))
            .collect()
    }
}

const OUTSIDE: &str = "it lies outside of the model's directory";

/// Where a model's external data lies; `.` for a bare file name, whose parent is empty.
fn directory_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// `None` for a name that leads out of the directory.
fn inside(directory: &Path, name: &str) -> Option<PathBuf> {
    let is_inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    is_inside.then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_content_and_settings() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.onnx");
        std::fs::write(&file, b"model").unwrap();
        let read = |settings: &str| Content::read(&file, settings).unwrap().digest;
        let before = read("");
        assert_eq!(before, read(""));
        assert_ne!(before, read("instances = 2"));
        let reference = Content::read(&file, "").unwrap().reference();
        assert_eq!(reference.again("").unwrap().onnx, "model");
        std::fs::write(&file, b"other").unwrap();
        assert_ne!(before, read(""));
        assert!(reference.again("").err().unwrap().contains("another model now"));
    }

    #[test]
    fn weights_outside_of_the_directory_are_not_read() {
        let directory = Path::new("/models/churn");
        assert_eq!(inside(directory, "w.bin"), Some(directory.join("w.bin")));
        assert_eq!(inside(directory, "./a/w.bin"), Some(directory.join("./a/w.bin")));
        for outside in ["../w.bin", "/etc/passwd", "a/../../w.bin"] {
            assert_eq!(inside(directory, outside), None, "{outside}");
        }
    }
}
