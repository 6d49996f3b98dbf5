//! From a file to a model that is warm: read, make servable, build sessions, run with zeros.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ort::value::Outlet;
use plumbline_inference_protocol::{ModelSignature, TensorSpec};

use super::discover::{DiscoverError, Found, discover};
use super::model_toml::{ModelToml, ModelTomlError};
use super::signature::{Unservable, complete_shapes, output_infos, problems_of, rows_agree, specs_of};
use super::warm_up::warm_up;
use super::{LoadError, LoadErrors};
use crate::config::ModelPath;
use crate::library::Library;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::onnx::{self, FileError, OnnxModel};
use crate::scheduler::{ComputeThreads, Cost, Scheduler};
use crate::session::{BuildError, RunError, Session};

/// Sessions of one model hold a copy of its weights each; by default they stay below this together.
const DEFAULT_WEIGHTS_BYTES: u64 = 1 << 30;

/// What loading needs besides a file.
pub(crate) struct Loader {
    pub(crate) library: Library,
    pub(crate) metrics: Metrics,
    pub(crate) compute: Arc<ComputeThreads>,
    /// CPUs that the process may use.
    pub(crate) threads: NonZeroUsize,
    pub(crate) instances: Option<NonZeroUsize>,
    pub(crate) max_queue: usize,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadProblem {
    /// There is no model at the path, or more than one.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// Its `model.toml` cannot be used.
    #[error(transparent)]
    Toml(#[from] ModelTomlError),
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(std::io::Error),
    /// The file is not a whole ONNX model.
    #[error(transparent)]
    File(#[from] FileError),
    /// Inputs or outputs that no client could send or read.
    #[error("{}", Sentences(.0))]
    Unservable(Vec<Unservable>),
    /// ONNX Runtime refuses it.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Class labels that do not fit the model.
    #[error("class_labels of model.toml: {0}")]
    Labels(String),
    /// Two models of one name and version.
    #[error("the name is taken: {} is version {version} of it as well", other.display())]
    Duplicate {
        /// The version.
        version: u64,
        /// The file that came first.
        other: PathBuf,
    },
}

struct Sentences<'a>(&'a [Unservable]);

impl fmt::Display for Sentences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// Finds and loads every model of the configuration.
///
/// # Errors
/// [`LoadErrors`]: all that cannot be served, at once; then nothing is.
pub(crate) fn load_all(
    loader: &Loader,
    models: &[ModelPath],
    repository: Option<&Path>,
) -> Result<Vec<(u64, Model)>, LoadErrors> {
    let mut errors = Vec::new();
    let mut found = Vec::new();
    let repository = repository.map(ModelPath::new);
    for ModelPath { name, path } in models.iter().chain(&repository) {
        match discover(path, name.as_deref()) {
            Ok(here) => found.extend(here.into_iter().map(|found| (found, name.is_some()))),
            Err((place, error)) => {
                errors.push(LoadError {
                    name: name.clone(),
                    place,
                    problem: error.into(),
                });
            }
        }
    }
    let mut taken: BTreeMap<(String, u64), PathBuf> = BTreeMap::new();
    let mut loaded = Vec::with_capacity(found.len());
    for (mut found, is_named) in found {
        let outcome = ModelToml::read(&found.directory)
            .map_err(LoadProblem::from)
            .and_then(|toml| {
                if let Some(name) = toml.name.clone().filter(|_| !is_named) {
                    found.name = name;
                }
                let key = (found.name.clone(), found.version);
                if let Some(other) = taken.get(&key) {
                    return Err(LoadProblem::Duplicate {
                        version: found.version,
                        other: other.clone(),
                    });
                }
                taken.insert(key, found.file.clone());
                loader.load(&found, &toml)
            });
        match outcome {
            Ok(model) => loaded.push((found.version, model)),
            Err(problem) => errors.push(LoadError {
                name: Some(found.name),
                place: found.file,
                problem,
            }),
        }
    }
    if errors.is_empty() {
        Ok(loaded)
    } else {
        Err(LoadErrors(errors))
    }
}

impl Loader {
    fn load(&self, found: &Found, toml: &ModelToml) -> Result<Model, LoadProblem> {
        let (model, description) = read(&found.file)?;
        let directory = directory_of(&found.file);
        let mut first = Session::build(&self.library, &model, directory)?;
        let (inputs, mut outputs) = specs_of(&first)?;
        let warm = if toml.warmup == Some(false) {
            None
        } else {
            let warm = warm_up(&mut first, &inputs, outputs.len());
            warm.inspect_err(|error| {
                let (name, version) = (&found.name, found.version);
                tracing::warn!(model.name = %name, model.version = version, %error, "model does not run with zeros");
            })
            .ok()
        };
        if let Some(warm) = &warm {
            complete_shapes(&mut outputs, &description, &warm.outputs);
        }
        let infos = output_infos(&outputs, &description, toml)?;
        let instances = toml
            .instances
            .or(self.instances)
            .unwrap_or_else(|| self.default_instances(model.len()));
        let mut sessions = vec![first];
        while sessions.len() < instances.get() {
            sessions.push(Session::build(&self.library, &model, directory)?);
        }
        let signature = ModelSignature {
            model: found.name.clone(),
            inputs,
            outputs,
        };
        let scheduler = Scheduler::new(
            sessions,
            warm.map_or_else(Cost::unknown, |warm| warm.cost),
            self.max_queue,
            Arc::clone(&self.compute),
            self.rebuild(found, &signature),
        );
        let version = found.version.to_string();
        let metrics = self.metrics.model(&found.name, &version);
        let rows_agree = rows_agree(&description.inputs);
        let model = Model::new(version, signature, infos, rows_agree, scheduler, metrics);
        model.log_loaded(instances, &description);
        Ok(model)
    }

    fn default_instances(&self, model_bytes: usize) -> NonZeroUsize {
        let affordable = DEFAULT_WEIGHTS_BYTES / (model_bytes as u64).max(1);
        let affordable = usize::try_from(affordable).ok().and_then(NonZeroUsize::new);
        self.threads.min(affordable.unwrap_or(NonZeroUsize::MIN))
    }

    /// Makes a session from the file again, if the file is still the same model.
    fn rebuild(
        &self,
        found: &Found,
        signature: &ModelSignature,
    ) -> Box<dyn Fn() -> Result<Session, String> + Send + Sync> {
        let (library, file, inputs) = (self.library.clone(), found.file.clone(), signature.inputs.clone());
        let outputs: Vec<String> = signature.outputs.iter().map(|spec| spec.name.clone()).collect();
        Box::new(move || {
            let (model, _) = read(&file).map_err(|error| error.to_string())?;
            let directory = directory_of(&file);
            let session = Session::build(&library, &model, directory).map_err(|error| error.to_string())?;
            let (now, _) = specs_of(&session).map_err(|error| error.to_string())?;
            let same = now == inputs && session.outputs().iter().map(Outlet::name).eq(outputs.iter());
            if same {
                Ok(session)
            } else {
                Err(format!("{} is another model now", file.display()))
            }
        })
    }
}

/// Where a model's external data lies; `.` for a bare file name, whose parent is empty.
fn directory_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Reads a file and makes it servable: its bytes without terminal `ZipMap` nodes, and what it said before.
fn read(file: &Path) -> Result<(Vec<u8>, OnnxModel), LoadProblem> {
    let bytes = std::fs::read(file).map_err(LoadProblem::Read)?;
    let description = onnx::describe(&bytes)?;
    let problems = problems_of(&description);
    if !problems.is_empty() {
        return Err(LoadProblem::Unservable(problems));
    }
    let bytes = if description.zip_maps.is_empty() {
        bytes
    } else {
        onnx::without_zip_maps(&bytes, &description)
    };
    Ok((bytes, description))
}

/// What loading a file shows, for a report.
pub(crate) struct Checked {
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
    /// Time of a run with one row of zeros.
    pub(crate) one_row: Result<Duration, RunError>,
}

/// Loads and runs a file as the server would.
///
/// # Errors
/// [`LoadProblem`].
pub(crate) fn check_file(library: &Library, file: &Path) -> Result<Checked, LoadProblem> {
    let (model, description) = read(file)?;
    let directory = directory_of(file);
    let mut session = Session::build(library, &model, directory)?;
    let (inputs, mut outputs) = specs_of(&session)?;
    let one_row = warm_up(&mut session, &inputs, outputs.len()).map(|warm| {
        complete_shapes(&mut outputs, &description, &warm.outputs);
        warm.cost.estimate(1)
    });
    Ok(Checked {
        inputs,
        outputs,
        one_row,
    })
}
