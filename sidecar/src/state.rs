//! What outlives the process: the comparison of each model, in one file per model and version.
//!
//! What has changed is written twice a second and at the end, so that `kill -9` loses less than a second of rows. At the start a
//! model goes on where its file says; one that is damaged is set aside, and the comparison begins anew.

use std::path::{Path, PathBuf};

use plumbline_drift::monitor::RestoreError;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::metrics::StateMetrics;
use crate::models::{Model, Models};
use crate::observer::{Analysis, AnalysisState, Standing};

const FORMAT: &str = "plumbline.sidecar-state";
/// Raised when a reader of the old version would misread the new one.
const FORMAT_VERSION: u32 = 1;
/// Ending of a file's name.
const KIND: &str = "state";

/// The directory with the files.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    directory: PathBuf,
    metrics: StateMetrics,
}

/// A state as it is written, and as it is read.
#[derive(Serialize, Deserialize)]
struct Saved<S> {
    format: String,
    format_version: u32,
    model: String,
    version: String,
    state: S,
}

/// Enough of it to see whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    format: String,
    format_version: u32,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot read it")]
    Read(#[source] std::io::Error),
    #[error("not a state")]
    Shape(#[source] serde_json::Error),
    #[error("expected format `{FORMAT}` version {FORMAT_VERSION}, found `{format}` version {version}")]
    Format { format: String, version: u32 },
    #[error("expected the state of `{expected}`, found that of `{found}`")]
    Model { expected: String, found: String },
}

impl StateDir {
    /// The files in `directory`, which is created when it is missing.
    ///
    /// # Errors
    /// The system's, when it cannot be created or written to.
    pub(crate) fn open(directory: &Path, metrics: StateMetrics) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // What cannot be kept is better told at the start than at the end.
        let probe = directory.join("write.unfinished");
        std::fs::write(&probe, b"")?;
        std::fs::remove_file(&probe)?;
        Ok(Self {
            directory: directory.to_owned(),
            metrics,
        })
    }

    /// Hands what an earlier process left of a model to `go_on`; when that refuses it, the comparison begins anew. Returns how the one
    /// stood that was left, when it was with another profile.
    pub(crate) fn restore(
        &self,
        model: &str,
        version: &str,
        go_on: impl FnOnce(AnalysisState) -> Result<(), RestoreError>,
    ) -> Option<Standing> {
        let state = match self.read(model, version) {
            Ok(state) => state?,
            Err(unusable) => {
                self.set_aside(model, version, &unusable);
                return None;
            }
        };
        let left = state.standing();
        match go_on(state) {
            Ok(()) => {
                self.metrics.restored.inc();
                tracing::info!(
                    model.name = model,
                    model.version = version,
                    "the comparison goes on where it was"
                );
                None
            }
            Err(error @ RestoreError::Profile { .. }) => {
                self.metrics.of_other_profile.inc();
                tracing::info!(model.name = model, model.version = version, %error, "the profile is another one; the comparison begins anew");
                left
            }
            Err(error) => {
                self.set_aside(model, version, &error);
                None
            }
        }
    }

    /// Writes what has changed of every model.
    pub(crate) fn save(&self, models: &Models) {
        for model in models.all() {
            // Copied under the lock, written without it.
            let changed = model.with_analysis(Analysis::take_changes);
            if let Some(state) = changed.flatten() {
                self.save_one(&model, state);
            }
        }
    }

    fn save_one(&self, model: &Model, state: AnalysisState) {
        let saved = Saved {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            model: model.name.clone(),
            version: model.version.clone(),
            state,
        };
        let json = serde_json::to_vec(&saved).expect("every map key is a text");
        let failing = self.metrics.unsaved.get() == 1;
        match plumbline_service::write_whole(&self.path(&model.name, &model.version), &json) {
            Ok(()) => {
                self.metrics.saved.inc();
                self.metrics.unsaved.set(0);
            }
            Err(error) => {
                self.metrics.save_failed.inc();
                self.metrics.unsaved.set(1);
                model.with_analysis(Analysis::touch);
                // Told when it begins; the metric goes on telling.
                if !failing {
                    tracing::error!(%error, directory = %self.directory.display(), "the state cannot be written");
                }
            }
        }
    }

    fn read(&self, model: &str, version: &str) -> Result<Option<AnalysisState>, Unusable> {
        let json = match std::fs::read(self.path(model, version)) {
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unusable::Read(error)),
        };
        let head: Head = serde_json::from_slice(&json).map_err(Unusable::Shape)?;
        if head.format != FORMAT || head.format_version != FORMAT_VERSION {
            return Err(Unusable::Format {
                format: head.format,
                version: head.format_version,
            });
        }
        let saved: Saved<AnalysisState> = serde_json::from_slice(&json).map_err(Unusable::Shape)?;
        if saved.model != model || saved.version != version {
            return Err(Unusable::Model {
                expected: format!("{model}@{version}"),
                found: format!("{}@{}", saved.model, saved.version),
            });
        }
        Ok(Some(saved.state))
    }

    /// Takes a state out of the way that cannot be used, so that it can be looked at.
    fn set_aside(&self, model: &str, version: &str, error: &(dyn std::error::Error + 'static)) {
        self.metrics.damaged.inc();
        let path = self.path(model, version);
        let aside = path.with_extension("damaged");
        let kept = std::fs::rename(&path, &aside);
        tracing::warn!(
            model.name = model,
            model.version = version,
            error = %plumbline_service::error_chain(error),
            set_aside = %aside.display(),
            is_kept = kept.is_ok(),
            "the stored state is unusable; the comparison begins anew"
        );
    }

    fn path(&self, model: &str, version: &str) -> PathBuf {
        files::path(&self.directory, model, version, KIND)
    }
}
