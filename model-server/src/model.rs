//! One version of a model that is loaded, warm and ready to run.

use std::num::NonZeroUsize;
use std::time::Duration;

use plumbline_inference_protocol::metadata::ModelMetadata;
use plumbline_inference_protocol::{
    CLASS_LABELS, Datatype, InferRequest, InferResponse, ModelSignature, ParameterValue, Parameters,
    ProtocolError, RequestedOutput, RequestedOutputs, Role, Shape, Tensor, TensorLabel, TensorSpec,
};

use crate::classification::classify;
use crate::metrics::{ModelMetrics, Ran, Rejected};
use crate::onnx::{Mapping, OnnxModel};
use crate::scheduler::{Deadline, Description, Refusal, Request, Scheduler};
use crate::session::{RunError, Session};

/// What the metadata says about the runtime.
pub(crate) const PLATFORM: &str = "onnxruntime_onnx";

/// A served version of a model.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) signature: ModelSignature,
    pub(crate) outputs: Vec<OutputInfo>,
    /// Set when the outputs are those of a classifier.
    pub(crate) classifier: Option<Classifier>,
    pub(crate) metrics: ModelMetrics,
    /// Sessions: requests that run side by side.
    pub(crate) instances: NonZeroUsize,
    scheduler: Scheduler<Session>,
    /// Inputs that a request may leave out, as the text of a property.
    optional_inputs: Option<String>,
    /// Positions of all outputs, for requests that name none.
    every_output: Vec<usize>,
    /// Whether the graph itself says that the inputs' rows go together: one name for all variable first dimensions.
    rows_agree: bool,
}

/// What is known about an output beyond its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputInfo {
    /// Names of the classes behind the last dimension.
    pub(crate) class_labels: Option<Vec<String>>,
    /// The same as the text of a parameter.
    class_labels_parameter: Option<String>,
    /// The class whose probability this is, where each class has an output.
    pub(crate) class: Option<String>,
    /// How it becomes tensors, where the graph has something else.
    pub(crate) mapping: Option<Mapping>,
    /// What the graph has, where that is no tensor.
    pub(crate) onnx_type: Option<String>,
}

impl OutputInfo {
    pub(crate) fn new(class_labels: Option<Vec<String>>) -> OutputInfo {
        let class_labels_parameter = class_labels
            .as_ref()
            .map(|labels| serde_json::to_string(labels).expect("a list of strings is representable as JSON"));
        OutputInfo {
            class_labels,
            class_labels_parameter,
            ..OutputInfo::default()
        }
    }
}

/// Positions of a classifier's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classifier {
    pub(crate) label: usize,
    /// One with a column for each class, or one for each class.
    pub(crate) probabilities: Vec<usize>,
    /// In the order of the probabilities.
    pub(crate) classes: Vec<String>,
}

impl Classifier {
    /// A model of exactly two outputs, one of them with class labels `[N, C]` and one with a label a row, `[N]`,
    /// `[N, 1]` or `[1, N]`; or one of a label a row and the probability of each class.
    pub(crate) fn of(specs: &[TensorSpec], infos: &[OutputInfo]) -> Option<Classifier> {
        if let [label] = (0..infos.len())
            .filter(|&at| infos[at].class.is_none())
            .collect::<Vec<_>>()[..]
            && infos.len() > 1
        {
            return Some(Classifier {
                label,
                probabilities: (0..infos.len()).filter(|&at| at != label).collect(),
                classes: infos.iter().filter_map(|info| info.class.clone()).collect(),
            });
        }
        let [first, second] = specs else { return None };
        let probabilities = infos.iter().position(|info| info.class_labels.is_some())?;
        let (label, label_spec, probability_spec) = if probabilities == 0 {
            (1, second, first)
        } else {
            (0, first, second)
        };
        // Converters leave an axis of size 1 beside the rows, before or behind: it is a label a row all the same.
        let one_a_row = match label_spec.shape.dimensions() {
            [_] => true,
            [first, second] => *first == 1 || *second == 1,
            _ => false,
        };
        let is_label = matches!(label_spec.datatype, Datatype::Int64 | Datatype::Bytes) && one_a_row;
        let is_probability = matches!(probability_spec.datatype, Datatype::Fp32 | Datatype::Fp64)
            && probability_spec.shape.rank() == 2;
        let classes = infos[probabilities].class_labels.clone()?;
        (is_label && is_probability).then_some(Classifier {
            label,
            probabilities: vec![probabilities],
            classes,
        })
    }

    /// The label and the probabilities of a run, if they have the shapes that their classes ask for.
    pub(crate) fn split<'a>(&self, outputs: &'a [Tensor]) -> Option<(&'a Tensor, Vec<&'a Tensor>)> {
        let label = outputs.get(self.label)?;
        let probabilities = self.probabilities.iter().map(|&at| outputs.get(at));
        let probabilities = probabilities.collect::<Option<Vec<_>>>()?;
        let rows = label.len();
        let fits = match probabilities.as_slice() {
            [matrix] => *matrix.shape() == Shape::from([rows as i64, self.classes.len() as i64]),
            columns => columns
                .iter()
                .all(|column| column.len() == rows && column.shape().rank() > 0),
        };
        fits.then_some((label, probabilities))
    }
}

impl Model {
    pub(crate) fn new(
        version: String,
        signature: ModelSignature,
        outputs: Vec<OutputInfo>,
        rows_agree: bool,
        scheduler: Scheduler<Session>,
        metrics: ModelMetrics,
    ) -> Model {
        Model {
            name: signature.model.clone(),
            version,
            classifier: Classifier::of(&signature.outputs, &outputs),
            every_output: (0..signature.outputs.len()).collect(),
            optional_inputs: optional_inputs(&signature.optional_inputs),
            signature,
            outputs,
            metrics,
            instances: NonZeroUsize::MIN,
            scheduler,
            rows_agree,
        }
    }

    /// One line about a model that is ready, for whoever reads the log of a start.
    pub(crate) fn log_loaded(&self, instances: NonZeroUsize, description: &OnnxModel) {
        let schedule = self.schedule();
        tracing::info!(
            model.name = %self.name,
            model.version = %self.version,
            inputs = specs_text(&self.signature.inputs),
            outputs = specs_text(&self.signature.outputs),
            producer = description.producer,
            zip_maps_removed = description.zip_maps.len(),
            instances,
            runs = if schedule.in_place { "in place" } else { "on compute threads" },
            batches = if schedule.batch_rows > 1 {
                format!("up to {} rows", schedule.batch_rows)
            } else if schedule.joins {
                "none: they do not pay".to_owned()
            } else {
                "none: rows may depend on each other".to_owned()
            },
            cost = cost_text(&schedule.curve),
            "model loaded"
        );
    }

    /// How requests are scheduled, as it is now.
    pub(crate) fn schedule(&self) -> Description {
        self.scheduler.describe()
    }

    /// Inputs and outputs, for a log.
    pub(crate) fn signature_text(&self) -> String {
        let ModelSignature { inputs, outputs, .. } = &self.signature;
        format!("{} -> {}", specs_text(inputs), specs_text(outputs))
    }

    /// What `GET /v2/models/{m}` and the RPC tell; `versions` are all that are served.
    pub(crate) fn metadata(&self, versions: Vec<String>) -> ModelMetadata {
        ModelMetadata {
            name: self.name.clone(),
            versions,
            platform: PLATFORM.to_owned(),
            inputs: self.signature.inputs.clone(),
            outputs: self.signature.outputs.clone(),
        }
    }

    /// What the metadata's `properties` tell beyond the protocol's members: `class_labels.<output>` → a JSON array of
    /// the classes behind the last dimension; `class.<output>` → the class whose probability it is;
    /// `onnx_type.<output>` → what the graph has, where that is no tensor; `any_rank.<tensor>` → `true` where the
    /// number of dimensions is open; `optional_inputs` → a JSON array of inputs that a request may leave out.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (String, &str)> {
        let of_outputs = self
            .signature
            .outputs
            .iter()
            .zip(&self.outputs)
            .flat_map(|(spec, info)| {
                [
                    (CLASS_LABELS, info.class_labels_parameter.as_deref()),
                    ("class", info.class.as_deref()),
                    ("onnx_type", info.onnx_type.as_deref()),
                ]
                .into_iter()
                .filter_map(|(key, text)| Some((format!("{key}.{}", spec.name), text?)))
            });
        let tensors = self.signature.inputs.iter().chain(&self.signature.outputs);
        let open = tensors.filter(|spec| spec.any_rank);
        let open = open.map(|spec| (format!("any_rank.{}", spec.name), "true"));
        let optional = self.optional_inputs.as_deref();
        let optional = optional.map(|inputs| ("optional_inputs".to_owned(), inputs));
        of_outputs.chain(open).chain(optional)
    }

    /// Whether an output has a position in a sequence, not a row, as its first axis.
    pub(crate) fn has_sequences(&self) -> bool {
        let is_sequence = |info: &OutputInfo| info.mapping.as_ref().is_some_and(Mapping::is_sequence);
        self.outputs.iter().any(is_sequence)
    }

    /// Runs a validated request and returns the `wanted` outputs, and for how long it waited and ran.
    ///
    /// # Errors
    /// [`ProtocolError`]: refused, or values that the model cannot run with.
    pub(crate) async fn infer(
        &self,
        request: InferRequest,
        wanted: &RequestedOutputs,
        deadline: Option<Deadline>,
    ) -> Result<(InferResponse, Duration), ProtocolError> {
        let InferRequest {
            id,
            inputs,
            parameters,
            ..
        } = request;
        let priority = priority_of(&parameters)?;
        let positions = self.positions(wanted)?;
        let (mut outputs, time) = self.run(inputs, positions.clone(), priority, deadline).await?;
        if self.has_sequences() {
            // A sequence may be several tensors, so that positions do not count; labels it has none.
            if wanted.list.iter().any(|output| output.classes().is_some()) {
                return Err(ProtocolError::InvalidArgument {
                    reason: format!(
                        "model `{}`: outputs that are sequences cannot be classified",
                        self.name
                    )
                    .into(),
                });
            }
        } else {
            for (tensor, &position) in outputs.iter_mut().zip(&positions) {
                if let Some(count) = wanted.get(tensor.name()).and_then(RequestedOutput::classes) {
                    *tensor = self.classified(tensor, position, count)?;
                } else if let Some(labels) = &self.outputs[position].class_labels_parameter {
                    let labels = ParameterValue::String(labels.clone());
                    tensor.parameters.set(CLASS_LABELS, labels);
                }
            }
        }
        let response = InferResponse {
            model_name: self.name.clone(),
            model_version: Some(self.version.clone()),
            id,
            outputs,
            ..InferResponse::default()
        };
        Ok((response, time))
    }

    /// Runs validated inputs and returns every output, and for how long they waited and ran.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub(crate) async fn run_all(
        &self,
        inputs: Vec<Tensor>,
        deadline: Option<Deadline>,
    ) -> Result<(Vec<Tensor>, Duration), ProtocolError> {
        self.run(inputs, self.every_output.clone(), 0, deadline).await
    }

    async fn run(
        &self,
        inputs: Vec<Tensor>,
        outputs: Vec<usize>,
        priority: u32,
        deadline: Option<Deadline>,
    ) -> Result<(Vec<Tensor>, Duration), ProtocolError> {
        let different_rows = self.different_rows(&inputs);
        if let Some(error) = different_rows.as_ref().filter(|_| self.rows_agree) {
            return Err(error.clone());
        }
        let rows = rows(&inputs);
        let is_required_only = inputs.len() == self.signature.inputs.len();
        let request = Request {
            inputs,
            outputs,
            rows,
            // An optional input is of one request, whatever shape it has.
            rows_agree: different_rows.is_none() && is_required_only,
            priority,
            deadline,
        };
        let in_flight = self.metrics.enter();
        let done = self.scheduler.run(request).await;
        in_flight.answered();
        let done = done.map_err(|refusal| self.refused(refusal))?;
        self.metrics.ran(&Ran {
            rows,
            queued: done.queued,
            computed: done.computed,
            batch_rows: done.batch_rows,
            leads: done.leads,
        });
        let outputs = done.value.map_err(|error| self.failed(error, different_rows))?;
        Ok((outputs, done.queued + done.computed))
    }

    fn classified(&self, output: &Tensor, position: usize, count: u32) -> Result<Tensor, ProtocolError> {
        let labels = self.outputs[position].class_labels.as_deref();
        let has_rows = self.signature.outputs[position].shape.rows() == Some(-1);
        classify(&self.name, output, count, labels, has_rows)
    }

    fn positions(&self, requested: &RequestedOutputs) -> Result<Vec<usize>, ProtocolError> {
        if requested.list.is_empty() {
            return Ok(self.every_output.clone());
        }
        let position = |name: &str| self.signature.outputs.iter().position(|spec| spec.name == name);
        let positions = requested.list.iter().map(|output| position(&output.name));
        // `ModelSignature::validate` has named the one that is missing.
        positions
            .collect::<Option<Vec<_>>>()
            .ok_or(ProtocolError::Internal)
    }

    /// The first input whose number of rows is not that of those before it; inputs with a fixed first dimension
    /// carry no rows.
    fn different_rows(&self, inputs: &[Tensor]) -> Option<ProtocolError> {
        let mut expected = None;
        for tensor in inputs {
            let variable = |spec: &TensorSpec| spec.shape.rows() == Some(-1) && !spec.any_rank;
            if !self.signature.input(tensor.name()).is_some_and(variable) {
                continue;
            }
            let got = tensor.shape().rows().unwrap_or(1);
            let expected = *expected.get_or_insert(got);
            if expected != got {
                let (model, tensor) = (
                    self.name.as_str().into(),
                    TensorLabel::new(Role::Input, tensor.name()),
                );
                return Some(ProtocolError::RowsMismatch {
                    model,
                    tensor,
                    expected,
                    got,
                });
            }
        }
        None
    }

    fn refused(&self, refusal: Refusal) -> ProtocolError {
        match refusal {
            Refusal::Overloaded { limit } => {
                self.metrics.rejected(Rejected::QueueFull);
                ProtocolError::Overloaded {
                    model: self.name.as_str().into(),
                    limit,
                }
            }
            Refusal::DeadlineExceeded { after } => {
                self.metrics.rejected(Rejected::Deadline);
                ProtocolError::DeadlineExceeded { after }
            }
            Refusal::Failed => ProtocolError::Internal,
        }
    }

    fn failed(&self, error: RunError, different_rows: Option<ProtocolError>) -> ProtocolError {
        match error {
            // The client's to change; what it sent is not logged. Different numbers of rows are the likeliest cause,
            // and better told in the client's terms than in an operator's.
            RunError::Unsuitable { .. } => different_rows.unwrap_or_else(|| ProtocolError::InvalidArgument {
                reason: format!("model `{}`: {error}", self.name).into(),
            }),
            RunError::Failed { reason } => {
                tracing::error!(model.name = %self.name, model.version = %self.version, error = %reason, "run failed");
                ProtocolError::Internal
            }
        }
    }
}

/// Rows and times of the measured executions: `1: 9µs, 2: 10µs, 4: 12µs`.
fn cost_text(curve: &[(usize, Duration)]) -> String {
    let one = |(rows, time): &(usize, Duration)| format!("{rows}: {}µs", time.as_micros());
    curve.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn specs_text(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| format!("{} {} {}", spec.name, spec.datatype, spec.shape);
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The urgency of the `schedule_policy` extension: the request parameter `priority`, 1 the most urgent, 0 the model's
/// default.
fn priority_of(parameters: &Parameters) -> Result<u32, ProtocolError> {
    let priority = match parameters.get("priority") {
        None => return Ok(0),
        Some(ParameterValue::Int(priority)) => u64::try_from(*priority).ok(),
        Some(ParameterValue::Uint(priority)) => Some(*priority),
        Some(ParameterValue::Bool(_) | ParameterValue::Double(_) | ParameterValue::String(_)) => None,
    };
    // Less urgent than any that can be told apart is the last.
    let last = u64::from(u32::MAX);
    let priority = priority.map(|priority| priority.min(last) as u32);
    priority.ok_or_else(|| ProtocolError::Field {
        field: "parameters.priority".into(),
        expected: "a whole number, 0 or more",
        got: "another value".into(),
    })
}

/// A JSON array of what the metadata's `inputs` would have.
fn optional_inputs(specs: &[TensorSpec]) -> Option<String> {
    let input = |spec: &TensorSpec| {
        serde_json::json!({
            "name": spec.name,
            "datatype": spec.datatype.as_str(),
            "shape": spec.shape.dimensions(),
        })
    };
    let inputs: serde_json::Value = specs.iter().map(input).collect();
    (!specs.is_empty()).then(|| inputs.to_string())
}

/// Rows of a request: the first dimension of its first input, 1 for a scalar.
fn rows(inputs: &[Tensor]) -> usize {
    let rows = inputs
        .first()
        .and_then(|tensor| tensor.shape().rows())
        .unwrap_or(1);
    usize::try_from(rows).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_a_row_may_have_an_axis_too_many() {
        let classes = vec!["no".to_owned(), "yes".to_owned()];
        let of = |label: &[i64]| {
            let label = TensorSpec::new("label", Datatype::Int64, label.iter().copied().collect::<Shape>());
            let probabilities = TensorSpec::new("p", Datatype::Fp32, [-1, 2]);
            let infos = [OutputInfo::default(), OutputInfo::new(Some(classes.clone()))];
            Classifier::of(&[label, probabilities], &infos).map(|classifier| classifier.label)
        };
        for shape in [&[-1][..], &[-1, 1], &[1, -1]] {
            assert_eq!(of(shape), Some(0), "{shape:?}");
        }
        for shape in [&[][..], &[-1, 2], &[-1, -1], &[-1, 1, 1]] {
            assert_eq!(of(shape), None, "{shape:?}");
        }
    }
}
