//! What an ONNX file is, and whether it will serve, without a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plumbline_inference_protocol::TensorSpec;
use serde::Serialize;

use crate::library::Library;
use crate::onnx::{self, OnnxModel};
use crate::repository::{Checked, check_file, labels_of, problems_of};

/// What [`check`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: PathBuf,
    /// Name and version of the converter that wrote it.
    pub producer: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets, e.g. `ai.onnx` 17.
    pub opsets: Vec<OpsetReport>,
    /// Inputs as they are served.
    pub inputs: Vec<TensorReport>,
    /// Inputs that a request may leave out.
    pub optional_inputs: Vec<TensorReport>,
    /// Outputs as they are served.
    pub outputs: Vec<TensorReport>,
    /// Outputs that are maps in the file (`ZipMap`) and served as tensors.
    pub zip_maps_removed: Vec<String>,
    /// Version of ONNX Runtime that loaded and ran it; `None` when it came to neither.
    pub onnxruntime: Option<String>,
    /// Time of a run on one row of zeros; `None` when it was not run.
    pub one_row: Option<Duration>,
    /// Why it cannot be served; empty when it can.
    pub problems: Vec<String>,
    /// What is odd about it, though it can be served.
    pub remarks: Vec<String>,
}

/// An operator set of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpsetReport {
    /// `ai.onnx`, `ai.onnx.ml`, ….
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// An input or output as it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its datatype, e.g. `FP32`; `?` when only ONNX Runtime could tell.
    pub datatype: String,
    /// Its shape, -1 where any size will do.
    pub shape: Vec<i64>,
    /// Names of the classes behind the last dimension, where they are known.
    pub class_labels: Option<Vec<String>>,
    /// What the file has, where that is no tensor.
    pub onnx_type: Option<String>,
}

impl CheckReport {
    /// Whether the file can be served.
    pub fn is_servable(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads `file`, and loads and runs it when there is a `library`; a file is only known to serve when there is one.
///
/// Never fails: what is wrong stands in the report.
pub fn check(file: &Path, library: Option<&Library>) -> CheckReport {
    let mut report = CheckReport {
        file: file.to_owned(),
        ..CheckReport::default()
    };
    let description = match std::fs::read(file) {
        Err(error) => Err(format!("the file cannot be read: {error}")),
        Ok(bytes) => onnx::describe(&bytes).map_err(|error| error.to_string()),
    };
    let description = match description {
        Ok(description) => description,
        Err(problem) => {
            report.problems.push(problem);
            return report;
        }
    };
    report.describe(&description);
    if !report.problems.is_empty() {
        return report;
    }
    let Some(library) = library else {
        report
            .remarks
            .push("ONNX Runtime was not asked: whether it has every operator is not known".to_owned());
        return report;
    };
    match check_file(library, file) {
        Ok(checked) => report.complete(library, checked),
        Err(problem) => report.problems.push(problem.to_string()),
    }
    report
}

impl CheckReport {
    fn describe(&mut self, model: &OnnxModel) {
        self.producer.clone_from(&model.producer);
        self.ir_version = model.ir_version;
        let opset = |opset: &onnx::Opset| OpsetReport {
            domain: opset.domain.clone(),
            version: opset.version,
        };
        self.opsets = model.opsets.iter().map(opset).collect();
        self.problems = problems_of(model).iter().map(ToString::to_string).collect();
        self.zip_maps_removed = model
            .zip_maps
            .iter()
            .map(|zip_map| zip_map.output.clone())
            .collect();
        let served = |info: &onnx::ValueInfo| {
            let zip_map = model.zip_maps.iter().find(|zip_map| zip_map.output == info.name);
            match (zip_map, info.spec()) {
                (Some(zip_map), _) => TensorReport {
                    name: info.name.clone(),
                    datatype: "FP32".to_owned(),
                    shape: vec![-1, zip_map.classes.len() as i64],
                    class_labels: Some(zip_map.classes.to_texts()),
                    onnx_type: None,
                },
                (None, Some(spec)) => TensorReport::of(&spec, labels_of(&spec, model)),
                (None, None) => TensorReport {
                    name: info.name.clone(),
                    datatype: "?".to_owned(),
                    shape: Vec::new(),
                    class_labels: None,
                    onnx_type: None,
                },
            }
        };
        self.inputs = model.inputs.iter().map(served).collect();
        self.outputs = model.outputs.iter().map(served).collect();
    }

    /// What ONNX Runtime says goes before what the file says.
    fn complete(&mut self, library: &Library, checked: Checked) {
        let plain = |spec: &TensorSpec| TensorReport::of(spec, None);
        self.inputs = checked.inputs.iter().map(plain).collect();
        self.optional_inputs = checked.optional_inputs.iter().map(plain).collect();
        let outputs = checked.outputs.iter().zip(checked.infos);
        self.outputs = outputs
            .map(|(spec, info)| TensorReport {
                onnx_type: info.onnx_type,
                ..TensorReport::of(spec, info.class_labels)
            })
            .collect();
        self.onnxruntime = Some(library.version().to_owned());
        match checked.one_row {
            Ok(time) => self.one_row = Some(time),
            Err(error) => self.remarks.push(format!("it does not run with zeros: {error}")),
        }
    }
}

impl TensorReport {
    fn of(spec: &TensorSpec, class_labels: Option<Vec<String>>) -> TensorReport {
        TensorReport {
            name: spec.name.clone(),
            datatype: spec.datatype.to_string(),
            shape: spec.shape.dimensions().to_vec(),
            class_labels,
            onnx_type: None,
        }
    }
}
