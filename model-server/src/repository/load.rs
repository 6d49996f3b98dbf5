//! From a file to a model that is warm: read, make servable, build sessions, run with zeros.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plumbline_inference_protocol::TensorSpec;

use super::content::Content;
use super::discover::DiscoverError;
use super::model_toml::{ModelToml, ModelTomlError};
use super::rows::inputs_have_rows;
use super::signature::{Specs, Unservable, problems_of, rows_agree};
use super::warm_up::{WarmUp, run_once, warm_up};
use crate::library::Library;
use crate::metrics::Metrics;
use crate::model::{Model, OutputInfo};
use crate::onnx::{self, FileError, OnnxModel};
use crate::scheduler::{ComputeThreads, Costs, Policy, Scheduler};
use crate::session::{BuildError, OptimizedCache, RunError, Session};

/// Sessions of one model hold a copy of its weights each; by default they stay below this together.
const DEFAULT_WEIGHTS_BYTES: u64 = 1 << 30;

/// What loading needs besides a file.
pub(crate) struct Loader {
    /// Where optimized models are kept.
    pub(crate) optimized: Option<OptimizedCache>,
    pub(crate) library: Library,
    pub(crate) metrics: Metrics,
    pub(crate) compute: Arc<ComputeThreads>,
    /// CPUs that the process may use.
    pub(crate) threads: NonZeroUsize,
    pub(crate) instances: Option<NonZeroUsize>,
    pub(crate) max_queue: usize,
    pub(crate) request_timeout: Option<Duration>,
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
    /// A file that it keeps weights in cannot be read.
    #[error("its external data `{name}` cannot be read: {problem}")]
    External {
        /// The file, as the model gives it.
        name: String,
        /// Why.
        problem: String,
    },
    /// Files of a request without a model among them.
    #[error("the request has no .onnx file, or several, for version {version}")]
    RequestFiles {
        /// The version.
        version: u64,
    },
    /// A configuration of a request that the model does not fit.
    #[error("the configuration of the request: {0}")]
    Declared(String),
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
    /// A version that `version_policy` names.
    #[error("version_policy asks for version {version}, which is not there")]
    NoSuchVersion {
        /// The version.
        version: u64,
    },
    /// A model that `--load-model` names.
    #[error("--load-model names it, but no repository has a model of this name")]
    NotInRepository,
    /// A fault of this program, or of ONNX Runtime.
    #[error("loading it panicked; the log says more")]
    Panicked,
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

impl Loader {
    /// Makes a model of its content, and runs it with zeros.
    ///
    /// # Errors
    /// [`LoadProblem`].
    pub(super) fn load(
        &self,
        name: &str,
        version: u64,
        content: &Content,
        toml: &ModelToml,
    ) -> Result<Model, LoadProblem> {
        let (model, description) = servable(&content.onnx)?;
        let build = || self.build(&model, &description, content);
        let mut first = build()?;
        let mut specs = Specs::of(&first, &description)?;
        let warm = if toml.warmup == Some(false) {
            None
        } else {
            let warm = warm_up(&mut first, &specs);
            warm.inspect_err(|error| {
                tracing::warn!(model.name = name, model.version = version, %error, "model does not run with zeros");
            })
            .ok()
        };
        if let Some(warm) = &warm {
            specs.complete(&warm.outputs);
        }
        let infos = specs.output_infos(&description, toml)?;
        let instances = toml
            .instances
            .or(self.instances)
            .unwrap_or_else(|| self.default_instances(model.len()));
        let mut sessions = vec![first];
        while sessions.len() < instances.get() {
            let mut session = build()?;
            if warm.is_some() {
                run_once(&mut session, &specs.inputs, specs.outputs.len());
            }
            sessions.push(session);
        }
        let has_rows = specs.are_plain() && inputs_have_rows(&specs.inputs);
        let policy = self.schedule(toml, name, has_rows, warm.as_ref());
        let signature = specs.into_signature(name);
        let scheduler = Scheduler::new(
            sessions,
            warm.map_or_else(Costs::unknown, |warm| warm.costs),
            policy,
            Arc::clone(&self.compute),
            self.rebuild(content, toml),
        );
        let version = version.to_string();
        let metrics = self.metrics.model(name, &version);
        let rows_agree = rows_agree(&description.inputs);
        let mut model = Model::new(version, signature, infos, rows_agree, scheduler, metrics);
        model.instances = instances;
        model.log_loaded(instances, &description);
        Ok(model)
    }

    /// What `model.toml` pins, then what the first runs have shown.
    fn schedule(&self, toml: &ModelToml, model: &str, has_rows: bool, warm: Option<&WarmUp>) -> Policy {
        let batching = &toml.batching;
        let joins = match batching.enabled {
            Some(enabled) => enabled && has_rows,
            None => warm.is_some_and(|warm| warm.rows_are_independent),
        };
        if batching.enabled == Some(true) && !joins {
            tracing::warn!(
                model.name = model,
                "batching is enabled, but not every input has a variable first dimension, or an output is no tensor"
            );
        }
        Policy {
            max_queue: toml.max_queue.unwrap_or(self.max_queue),
            default_priority: toml.default_priority.map_or(u32::MAX, NonZeroU32::get),
            request_timeout: self.request_timeout,
            joins,
            batch_rows: batching.rows.map(NonZeroUsize::get),
            max_rows: batching.max_rows.map(NonZeroUsize::get),
            in_place: toml.in_place,
        }
    }

    /// A session, from the cache of optimized models where there is one. It has no place for files that a model keeps
    /// weights in.
    fn build(&self, model: &[u8], description: &OnnxModel, content: &Content) -> Result<Session, BuildError> {
        match &self.optimized {
            Some(cache) if content.external.is_empty() => {
                cache.build(&self.library, model, description.nodes)
            }
            _ => Session::build(&self.library, model, &content.external),
        }
    }

    fn default_instances(&self, model_bytes: usize) -> NonZeroUsize {
        let affordable = DEFAULT_WEIGHTS_BYTES / (model_bytes as u64).max(1);
        let affordable = usize::try_from(affordable).ok().and_then(NonZeroUsize::new);
        self.threads.min(affordable.unwrap_or(NonZeroUsize::MIN))
    }

    /// Makes a session from the file again, if it is still the same.
    fn rebuild(
        &self,
        content: &Content,
        toml: &ModelToml,
    ) -> Box<dyn Fn() -> Result<Session, String> + Send + Sync> {
        let (library, content) = (self.library.clone(), content.reference());
        let settings = toml.for_loading();
        Box::new(move || {
            let content = content.again(&settings)?;
            let (model, _) = servable(&content.onnx).map_err(|error| error.to_string())?;
            Session::build(&library, &model, &content.external).map_err(|error| error.to_string())
        })
    }
}

/// Makes the bytes of a file servable: without terminal `ZipMap` nodes, and with what they said before.
pub(super) fn servable(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, OnnxModel), LoadProblem> {
    let description = onnx::describe(bytes)?;
    let problems = problems_of(&description);
    if !problems.is_empty() {
        return Err(LoadProblem::Unservable(problems));
    }
    let bytes = if description.zip_maps.is_empty() {
        Cow::Borrowed(bytes)
    } else {
        Cow::Owned(onnx::without_zip_maps(bytes, &description))
    };
    Ok((bytes, description))
}

/// What loading a file shows, for a report.
pub(crate) struct Checked {
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) optional_inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
    pub(crate) infos: Vec<OutputInfo>,
    /// Time of a run with one row of zeros.
    pub(crate) one_row: Result<Duration, RunError>,
}

/// Loads and runs a file as the server would.
///
/// # Errors
/// [`LoadProblem`].
pub(crate) fn check_file(library: &Library, file: &Path) -> Result<Checked, LoadProblem> {
    let content = Content::read(file, "")?;
    let (model, description) = servable(&content.onnx)?;
    let mut session = Session::build(library, &model, &content.external)?;
    let mut specs = Specs::of(&session, &description)?;
    let one_row = warm_up(&mut session, &specs).map(|warm| {
        specs.complete(&warm.outputs);
        warm.costs.estimate(1).unwrap_or_default()
    });
    let infos = specs.output_infos(&description, &ModelToml::default())?;
    Ok(Checked {
        inputs: specs.inputs,
        optional_inputs: specs.optional_inputs,
        outputs: specs.outputs,
        infos,
        one_row,
    })
}
