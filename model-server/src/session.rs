//! Sessions of ONNX Runtime: built for many small runs side by side, run without a copy of a tensor.

mod nested;
mod optimized;
mod run;
mod status;
mod stop;
mod value;

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use ort::ep;
use ort::memory::MemoryInfo;
use ort::session::OverridableInitializer;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::sys;
use ort::value::{Outlet, TensorElementType, ValueType as OrtType};
use plumbline_inference_protocol::Datatype;

use crate::library::Library;
use crate::onnx::{Dimension, Mapping, ValueType};

pub(crate) use self::optimized::OptimizedCache;
pub(crate) use self::run::RunError;
use self::stop::RunOptions;

/// One session: runs one request at a time. Requests side by side need as many sessions.
#[derive(Debug)]
pub(crate) struct Session {
    ort: ort::session::Session,
    memory: MemoryInfo<'static>,
    names: Arc<Names>,
    /// Of every run of this session.
    options: Arc<RunOptions>,
}

/// A file that a model keeps weights in, read whole: one that ONNX Runtime maps would change under a running model
/// when somebody writes it, or end it when somebody cuts it.
#[derive(Clone, Debug)]
pub(crate) struct External {
    /// As the model gives it.
    pub(crate) name: String,
    pub(crate) bytes: Arc<[u8]>,
}

/// The names of a graph's inputs and outputs, as ONNX Runtime takes them. Shared by the sessions of a model.
#[derive(Debug)]
struct Names {
    inputs: Vec<(String, CString)>,
    outputs: Vec<(String, CString)>,
    /// By output, how it becomes tensors, where it is none itself.
    mappings: Vec<Option<Mapping>>,
}

/// A model that ONNX Runtime refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The file format is newer than the library.
    #[error(
        "the model's IR version is {model}, ONNX Runtime {library} reads up to {supported}: \
         export the model with an older IR version, or use a newer ONNX Runtime"
    )]
    IrTooNew {
        /// What the file has.
        model: i64,
        /// What the library reads.
        supported: i64,
        /// Version of the library.
        library: String,
    },
    /// An operator set is newer than the library.
    #[error(
        "the model's opset of {domain} is {model}, ONNX Runtime {library} supports up to {supported}: \
         export the model with an older opset, or use a newer ONNX Runtime"
    )]
    OpsetTooNew {
        /// `ai.onnx`, `ai.onnx.ml`.
        domain: String,
        /// What the file has.
        model: i64,
        /// What the library supports.
        supported: i64,
        /// Version of the library.
        library: String,
    },
    /// Anything else.
    #[error("ONNX Runtime refuses it: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
}

impl Session {
    /// Builds a session from the bytes of a model and of the files that it refers to.
    ///
    /// One thread per run and no arena: parallelism is across requests, and the memory of one large request is
    /// given back. Small models are as fast so, or faster.
    ///
    /// # Errors
    /// [`BuildError`].
    pub(crate) fn build(
        library: &Library,
        model: &[u8],
        external: &[External],
    ) -> Result<Session, BuildError> {
        let built = options(library, GraphOptimizationLevel::All, external)
            .and_then(|mut options| options.commit_from_memory(model));
        Session::of(library, built)
    }

    /// Builds a session, and writes the model to `file` as it was optimized.
    fn build_saving(library: &Library, model: &[u8], file: &Path) -> Result<Session, BuildError> {
        let built = options(library, GraphOptimizationLevel::All, &[])
            .and_then(|options| Ok(options.with_optimized_model_path(file)?))
            .and_then(|mut options| options.commit_from_memory(model));
        Session::of(library, built)
    }

    /// Builds a session from a model that [`Session::build_saving`] wrote.
    fn build_optimized(library: &Library, model: &[u8]) -> Result<Session, BuildError> {
        let built = options(library, GraphOptimizationLevel::Disable, &[])
            .and_then(|mut options| options.commit_from_memory(model));
        Session::of(library, built)
    }

    fn of(library: &Library, built: ort::Result<ort::session::Session>) -> Result<Session, BuildError> {
        let session = built.map_err(|error| BuildError::from_message(error.message(), library.version()))?;
        let memory = MemoryInfo::default();
        let optional = session.overridable_initializers();
        let inputs = session.inputs().iter().map(Outlet::name);
        let inputs = inputs.chain(optional.iter().map(OverridableInitializer::name));
        let mapping = |outlet: &Outlet| value_type_of(outlet.dtype()).mapping();
        let names = Names {
            inputs: inputs.filter_map(names_of).collect(),
            outputs: session
                .outputs()
                .iter()
                .map(Outlet::name)
                .filter_map(names_of)
                .collect(),
            mappings: session
                .outputs()
                .iter()
                .map(|outlet| mapping(outlet).filter(|mapping| !mapping.is_plain()))
                .collect(),
        };
        let options = RunOptions::new().map_err(|error| BuildError::Refused {
            reason: error.to_string(),
        })?;
        Ok(Session {
            ort: session,
            memory,
            names: Arc::new(names),
            options: Arc::new(options),
        })
    }

    /// What goes in, in order.
    pub(crate) fn inputs(&self) -> &[Outlet] {
        self.ort.inputs()
    }

    /// Names and types of the inputs that have values of their own.
    pub(crate) fn optional_inputs(&self) -> Vec<(String, ValueType)> {
        let optional = self.ort.overridable_initializers();
        let input = |input: &OverridableInitializer| (input.name().to_owned(), value_type_of(input.dtype()));
        optional.iter().map(input).collect()
    }

    /// What comes out, in order.
    pub(crate) fn outputs(&self) -> &[Outlet] {
        self.ort.outputs()
    }
}

fn options(
    library: &Library,
    level: GraphOptimizationLevel,
    external: &[External],
) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(library.environment())?
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_config_entry("session.intra_op.allow_spinning", "0")?
        .with_config_entry("session.inter_op.allow_spinning", "0")?
        .with_memory_pattern(false)?
        .with_optimization_level(level)?;
    for External { name, bytes } in external {
        builder = builder.with_external_initializer_file_in_memory(name, Arc::clone(bytes))?;
    }
    Ok(builder)
}

/// A name with a NUL is none that a graph can have: ONNX Runtime's own names are C strings.
fn names_of(name: &str) -> Option<(String, CString)> {
    Some((name.to_owned(), CString::new(name).ok()?))
}

/// ONNX Runtime's type as the file would have it. A tensor without dimensions is a scalar, or one whose shape nobody
/// knows: ONNX Runtime does not tell which.
pub(crate) fn value_type_of(ort: &OrtType) -> ValueType {
    let element_of = |element: &TensorElementType| sys::ONNXTensorElementDataType::from(*element) as i64;
    match ort {
        OrtType::Tensor { ty, shape, .. } => ValueType::Tensor {
            element: element_of(ty),
            shape: Some(shape.iter().map(|&size| Dimension::of(size)).collect()),
        },
        OrtType::Sequence(element) => ValueType::Sequence(Box::new(value_type_of(element))),
        OrtType::Map { key, value } => ValueType::Map {
            key: element_of(key),
            value: Box::new(ValueType::Tensor {
                element: element_of(value),
                shape: Some(Vec::new()),
            }),
        },
        OrtType::Optional(inner) => ValueType::Optional(Box::new(value_type_of(inner))),
    }
}

impl BuildError {
    /// The two that people meet most get both versions named; ONNX Runtime tells them in its text only.
    fn from_message(message: &str, library: &str) -> BuildError {
        let number_after = |phrase: &str| {
            let digits = message.split_once(phrase)?.1.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse::<i64>().ok()
        };
        let library = library.to_owned();
        if let (Some(model), Some(supported)) = (
            number_after("Unsupported model IR version:"),
            number_after("max supported IR version:"),
        ) {
            return BuildError::IrTooNew {
                model,
                supported,
                library,
            };
        }
        if let (Some(model), Some((_, support))) = (
            number_after("Opset "),
            message.split_once("official support for domain "),
        ) && let Some((domain, till)) = support.split_once(" is till opset ")
            && let Ok(supported) = till.trim().trim_end_matches('.').parse()
        {
            return BuildError::OpsetTooNew {
                domain: domain.to_owned(),
                model,
                supported,
                library,
            };
        }
        BuildError::Refused {
            reason: message.trim().to_owned(),
        }
    }
}

/// The protocol's datatype of an element type; `None` where it has none.
pub(crate) fn datatype_of(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None, // complex, 8-bit floats, packed 4- and 2-bit integers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_what_onnx_runtime_says() {
        let ir = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(...) \
                  Unsupported model IR version: 99, max supported IR version: 14\n";
        let error = BuildError::from_message(ir, "1.32.0");
        assert!(
            matches!(
                error,
                BuildError::IrTooNew {
                    model: 99,
                    supported: 14,
                    ..
                }
            ),
            "{error}"
        );
        let opset = "... models stamped with official released onnx opset versions. Opset 6 is under development \
                     and support for this is limited. Current official support for domain ai.onnx.ml is till opset 5.\n";
        let error = BuildError::from_message(opset, "1.32.0");
        assert!(
            matches!(
                error,
                BuildError::OpsetTooNew {
                    model: 6,
                    supported: 5,
                    ..
                }
            ),
            "{error}"
        );
        let error = BuildError::from_message("anything else\n", "1.32.0");
        assert_eq!(error.to_string(), "ONNX Runtime refuses it: anything else");
    }
}
