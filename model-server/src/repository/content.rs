//! The bytes of one version of a model, read whole and known by their digest.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::LoadProblem;

/// SHA-256 of everything that a version is made of: touching a file does not change it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a version is made of.
pub(super) struct Content {
    pub(super) file: PathBuf,
    pub(super) onnx: Vec<u8>,
    /// Files that it refers to.
    pub(super) others: Vec<PathBuf>,
    pub(super) digest: Digest,
}

impl Content {
    /// Reads the model at `file`; `settings` are what its `model.toml` says about loading.
    ///
    /// # Errors
    /// [`LoadProblem::Read`].
    pub(super) fn read(file: &Path, settings: &str) -> Result<Content, LoadProblem> {
        let onnx = std::fs::read(file).map_err(LoadProblem::Read)?;
        let mut digest = Sha256::new();
        for part in [settings.as_bytes(), &onnx] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Content {
            file: file.to_owned(),
            onnx,
            others: Vec::new(),
            digest: Digest(digest.finalize().into()),
        })
    }
}
