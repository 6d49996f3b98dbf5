//! A directory of models as ONNX Runtime has optimized them, so that a start, and every further session, need not
//! optimize again.
//!
//! Optimizing is what takes the time where a graph has many nodes; reading trees or weights is not made faster by it.
//! An entry is known by everything that decides what is in it: the model's bytes, ONNX Runtime's version and the CPU.
//! What cannot be read or is not what was written counts as absent, and what cannot be written is not kept.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{BuildError, Session};
use crate::library::Library;

/// Nodes from which on it pays. One CPU thread, ONNX Runtime 1.32: 6 nodes 1.2 -> 1.0 ms, 300 nodes 12.2 -> 4.9 ms, 1,200
/// nodes 54.9 -> 17.5 ms; one node with 100 trees 6.5 -> 6.5 ms, 36 nodes with 50 MB of weights 80.6 -> 79.6 ms.
const PAYS_FROM_NODES: usize = 100;

/// Length of the digest that an entry starts with.
const DIGEST_LEN: usize = 32;

/// The directory. Whoever can write to it decides what is served.
#[derive(Clone, Debug)]
pub(crate) struct OptimizedCache {
    directory: PathBuf,
}

impl OptimizedCache {
    pub(crate) fn new(directory: PathBuf) -> OptimizedCache {
        OptimizedCache { directory }
    }

    /// Builds a session from what is kept, or from `model` and keeps it; a graph of few nodes always from `model`.
    ///
    /// # Errors
    /// [`BuildError`] of `model`; the cache itself never fails.
    pub(crate) fn build(&self, library: &Library, model: &[u8], nodes: usize) -> Result<Session, BuildError> {
        if nodes < PAYS_FROM_NODES {
            return Session::build(library, model, &[]);
        }
        let entry = self.entry(library, model);
        if let Some(optimized) = read(&entry) {
            match Session::build_optimized(library, &optimized) {
                Ok(session) => return Ok(session),
                Err(error) => tracing::debug!(file = %entry.display(), %error, "optimized model is not used"),
            }
        }
        let unfinished = self.directory.join(format!("unfinished-{}.onnx", unique()));
        if let Err(error) = std::fs::create_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "optimized models are not kept");
            return Session::build(library, model, &[]);
        }
        let session = Session::build_saving(library, model, &unfinished).or_else(|_| {
            // A full or read-only directory is no reason to refuse a model.
            Session::build(library, model, &[])
        });
        if session.is_ok()
            && let Err(error) = keep(&unfinished, &entry)
        {
            tracing::warn!(file = %entry.display(), %error, "optimized model is not kept");
        }
        // Renamed away where it was kept.
        drop(std::fs::remove_file(&unfinished));
        session
    }

    fn entry(&self, library: &Library, model: &[u8]) -> PathBuf {
        let mut digest = Sha256::new();
        for part in [
            library.version().as_bytes(),
            std::env::consts::ARCH.as_bytes(),
            &cpu_features(),
            model,
        ] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let nibbles = digest
            .finalize()
            .into_iter()
            .flat_map(|byte| [byte >> 4, byte & 15]);
        let name: String = nibbles
            .map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)]))
            .collect();
        self.directory.join(name)
    }
}

/// A name that no other thread or process uses at this time.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What the kernel says the CPU can do; kernels are chosen by it. Empty where it does not say.
fn cpu_features() -> Vec<u8> {
    let told = std::fs::read("/proc/cpuinfo").unwrap_or_default();
    let is_features = |line: &&[u8]| line.starts_with(b"flags") || line.starts_with(b"Features");
    let mut lines = told.split(|&byte| byte == b'\n');
    lines.find(is_features).map(<[u8]>::to_vec).unwrap_or_default()
}

/// The model of an entry: what follows the digest of it.
fn read(entry: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(entry).ok()?;
    let model = bytes.get(DIGEST_LEN..)?;
    let is_whole = Sha256::digest(model)[..] == bytes[..DIGEST_LEN];
    if !is_whole {
        tracing::debug!(file = %entry.display(), "optimized model is damaged");
        return None;
    }
    Some(bytes.split_off(DIGEST_LEN))
}

/// Makes an entry of what ONNX Runtime wrote; it appears whole or not at all.
fn keep(written: &Path, entry: &Path) -> io::Result<()> {
    let model = std::fs::read(written)?;
    let mut bytes = Sha256::digest(&model).to_vec();
    bytes.extend_from_slice(&model);
    std::fs::write(written, &bytes)?;
    std::fs::rename(written, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_only_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (written, entry) = (directory.path().join("w"), directory.path().join("e"));
        std::fs::write(&written, b"model").unwrap();
        keep(&written, &entry).unwrap();
        assert!(!written.exists());
        assert_eq!(read(&entry).as_deref(), Some(&b"model"[..]));
        let mut damaged = std::fs::read(&entry).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        for bytes in [&damaged[..], &damaged[..20], b""] {
            std::fs::write(&entry, bytes).unwrap();
            assert_eq!(read(&entry), None);
        }
        assert_eq!(read(&directory.path().join("missing")), None);
    }
}
