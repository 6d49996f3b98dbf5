//! From a file to a model that is warm: read, make servable, build sessions, run with zeros.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ort::value::{Outlet, ValueType as OrtType};
use plumbline_inference_protocol::{ModelSignature, Shape, TensorSpec};

use super::discover::{DiscoverError, Found, discover};
use super::model_toml::{ModelToml, ModelTomlError};
use super::warm_up::warm_up;
use super::{LoadError, LoadErrors};
use crate::config::ModelPath;
use crate::library::Library;
use crate::metrics::Metrics;
use crate::model::{Model, OutputInfo};
use crate::onnx::{self, Dimension, FileError, OnnxModel, ValueInfo, ValueType};
use crate::scheduler::{ComputeThreads, Cost, Scheduler};
use crate::session::{BuildError, RunError, Session, datatype_of};

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

/// An input or output that the protocol cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// Not a tensor.
    #[error("{side} `{name}` is {value_type}, and a tensor is all that the protocol carries")]
    NotATensor {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        value_type: ValueType,
    },
    /// A tensor of elements that the protocol does not have.
    #[error("{side} `{name}` is {value_type}, a datatype that the protocol does not have")]
    NoDatatype {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        value_type: ValueType,
    },
    /// An input of any rank.
    #[error("input `{name}` has no shape: export the model with a shape, dimensions may be variable")]
    NoShape {
        /// Its name.
        name: String,
    },
    /// Nothing to answer with.
    #[error("the graph has no outputs")]
    NoOutputs,
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

/// Why the model's inputs and outputs cannot be served, its terminal `ZipMap` nodes taken as removed.
pub(crate) fn problems_of(model: &OnnxModel) -> Vec<Unservable> {
    let is_zip_map = |output: &&ValueInfo| model.zip_maps.iter().all(|zip_map| zip_map.output != output.name);
    let inputs = model.inputs.iter().filter_map(|input| problem_of("input", input));
    let outputs = model
        .outputs
        .iter()
        .filter(is_zip_map)
        .filter_map(|output| problem_of("output", output));
    let none = model.outputs.is_empty().then_some(Unservable::NoOutputs);
    inputs.chain(outputs).chain(none).collect()
}

fn problem_of(side: &'static str, info: &ValueInfo) -> Option<Unservable> {
    let (name, value_type) = (info.name.clone(), info.value_type.clone());
    match &info.value_type {
        ValueType::Tensor { element, .. } if onnx::datatype_of(*element).is_none() => {
            Some(Unservable::NoDatatype {
                side,
                name,
                value_type,
            })
        }
        ValueType::Tensor { shape: None, .. } if side == "input" => Some(Unservable::NoShape { name }),
        // An output's type may be left to inference; ONNX Runtime tells it when the model is built.
        ValueType::Tensor { .. } => None,
        ValueType::Unknown if side == "output" => None,
        ValueType::SparseTensor { .. }
        | ValueType::Sequence(_)
        | ValueType::Map { .. }
        | ValueType::Optional(_)
        | ValueType::Unknown => Some(Unservable::NotATensor {
            side,
            name,
            value_type,
        }),
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

/// Inputs and outputs as ONNX Runtime has them after shape inference.
fn specs_of(session: &Session) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), LoadProblem> {
    let mut problems = Vec::new();
    let mut specs = |side: &'static str, outlets: &[Outlet]| -> Vec<TensorSpec> {
        let spec = |outlet: &Outlet| {
            let spec = spec_of(outlet);
            if spec.is_none() {
                let (name, value_type) = (outlet.name().to_owned(), ValueType::Unknown);
                problems.push(Unservable::NotATensor {
                    side,
                    name,
                    value_type,
                });
            }
            spec
        };
        outlets.iter().filter_map(spec).collect()
    };
    let (inputs, outputs) = (
        specs("input", session.inputs()),
        specs("output", session.outputs()),
    );
    if problems.is_empty() {
        Ok((inputs, outputs))
    } else {
        Err(LoadProblem::Unservable(problems))
    }
}

fn spec_of(outlet: &Outlet) -> Option<TensorSpec> {
    match outlet.dtype() {
        OrtType::Tensor { ty, shape, .. } => {
            let shape: Shape = shape.iter().map(|&dimension| dimension.max(-1)).collect();
            Some(TensorSpec::new(outlet.name(), datatype_of(*ty)?, shape))
        }
        OrtType::Sequence(_) | OrtType::Map { .. } | OrtType::Optional(_) => None,
    }
}

/// ONNX Runtime tells a shape that nobody knows as that of a scalar; a run shows the rank.
fn complete_shapes(outputs: &mut [TensorSpec], description: &OnnxModel, shown: &[Shape]) {
    for (output, shown) in outputs.iter_mut().zip(shown) {
        let says_scalar = |info: &&ValueInfo| {
            info.name == output.name
                && matches!(&info.value_type, ValueType::Tensor { shape: Some(shape), .. } if shape.is_empty())
        };
        if output.shape.rank() == 0
            && shown.rank() > 0
            && !description.outputs.iter().any(|o| says_scalar(&o))
        {
            output.shape = shown.dimensions().iter().map(|_| -1).collect();
        }
    }
}

/// Class labels by output: those of `model.toml`, else those of a removed `ZipMap`.
fn output_infos(
    outputs: &[TensorSpec],
    description: &OnnxModel,
    toml: &ModelToml,
) -> Result<Vec<OutputInfo>, LoadProblem> {
    if let Some(unknown) = toml
        .class_labels
        .keys()
        .find(|name| outputs.iter().all(|spec| spec.name != **name))
    {
        return Err(LoadProblem::Labels(format!(
            "the model has no output `{unknown}`"
        )));
    }
    let info = |spec: &TensorSpec| {
        let zip_map = description
            .zip_maps
            .iter()
            .find(|zip_map| zip_map.output == spec.name);
        let given = toml.class_labels.get(&spec.name).cloned();
        if let (Some(labels), Some(&classes)) = (&given, spec.shape.dimensions().last())
            && classes >= 0
            && labels.len() as i64 != classes
        {
            let (output, given) = (&spec.name, labels.len());
            return Err(LoadProblem::Labels(format!(
                "output `{output}` has {classes} classes, got {given} labels"
            )));
        }
        Ok(OutputInfo::new(
            given.or_else(|| zip_map.map(|zip_map| zip_map.classes.to_texts())),
        ))
    };
    outputs.iter().map(info).collect()
}

/// Whether all variable first dimensions of inputs have one and the same name.
fn rows_agree(inputs: &[ValueInfo]) -> bool {
    let mut names = inputs.iter().filter_map(|input| match &input.value_type {
        ValueType::Tensor {
            shape: Some(shape), ..
        } => match shape.first()? {
            Dimension::Named(name) => Some(Some(name.as_str())),
            Dimension::Unknown => Some(None),
            Dimension::Fixed(_) => None,
        },
        _ => None,
    });
    match names.next() {
        Some(Some(first)) => names.all(|name| name == Some(first)),
        Some(None) | None => false,
    }
}
