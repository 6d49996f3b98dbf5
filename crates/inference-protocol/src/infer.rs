//! Inference requests and responses, whatever encoding they came in.

use crate::{Shape, Tensor};

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// A number with a fraction or an exponent.
    Double(f64),
    /// A string.
    String(String),
}

impl From<bool> for ParameterValue {
    fn from(value: bool) -> ParameterValue {
        ParameterValue::Bool(value)
    }
}

impl From<i64> for ParameterValue {
    fn from(value: i64) -> ParameterValue {
        ParameterValue::Int(value)
    }
}

impl From<f64> for ParameterValue {
    fn from(value: f64) -> ParameterValue {
        ParameterValue::Double(value)
    }
}

impl From<&str> for ParameterValue {
    fn from(value: &str) -> ParameterValue {
        ParameterValue::String(value.to_owned())
    }
}

/// Parameters by name, in the order given. Few, so looked up one by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<(String, ParameterValue)>);

impl Parameters {
    /// Parameters whose names are known to differ.
    pub(crate) fn from_unique(parameters: Vec<(String, ParameterValue)>) -> Parameters {
        Parameters(parameters)
    }

    /// The parameter `name`.
    pub fn get(&self, name: &str) -> Option<&ParameterValue> {
        self.0
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Sets the parameter `name`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<ParameterValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes the parameter `name` out.
    pub fn remove(&mut self, name: &str) -> Option<ParameterValue> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &ParameterValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<N: Into<String>, V: Into<ParameterValue>> FromIterator<(N, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(parameters: I) -> Parameters {
        let mut all = Parameters::default();
        for (name, value) in parameters {
            all.set(name, value);
        }
        all
    }
}

/// An output that the client asks for by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedOutput {
    /// Name of the output.
    pub name: String,
    /// `binary_data`: binary (true) or JSON (false), whatever the request's default is.
    pub binary_data: Option<bool>,
    /// `classification`: this many of the highest values, each as `value:index[:label]`.
    pub classification: Option<u32>,
    /// Other parameters.
    pub parameters: Parameters,
}

impl RequestedOutput {
    /// How many classes the client wants to be told instead of the values; 0 in `classification` is none.
    pub fn classes(&self) -> Option<u32> {
        self.classification.filter(|&count| count > 0)
    }
}

/// Which outputs the client wants, and how encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedOutputs {
    /// `binary_data_output`: the default for all outputs. Unset: JSON on REST, raw contents on gRPC.
    pub binary_data_output: Option<bool>,
    /// Outputs by name; none means all of the model's.
    pub list: Vec<RequestedOutput>,
}

impl RequestedOutputs {
    /// Whether `output` is wanted: named, or nothing is named.
    pub fn wants(&self, output: &str) -> bool {
        self.list.is_empty() || self.list.iter().any(|requested| requested.name == output)
    }

    /// Whether a REST reply carries `output` as binary data.
    ///
    /// `<output>_<number>`, a part of a sequence, follows the request for `<output>`.
    pub fn wants_binary(&self, output: &str) -> bool {
        let whole = || {
            let (whole, number) = output.rsplit_once('_')?;
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            self.get(whole).filter(|_| is_number)
        };
        self.get(output)
            .or_else(whole)
            .and_then(|requested| requested.binary_data)
            .or(self.binary_data_output)
            .unwrap_or(false)
    }

    /// Whether a gRPC reply carries raw contents: yes, unless `binary_data_output` is false. Stock clients read
    /// numbers only from raw contents.
    pub fn wants_raw(&self) -> bool {
        self.binary_data_output.unwrap_or(true)
    }

    /// The request for `output`, if it is named.
    pub fn get(&self, output: &str) -> Option<&RequestedOutput> {
        self.list.iter().find(|requested| requested.name == output)
    }
}

/// An inference request. The model's name is beside it: in the path (REST) or in [`crate::ModelRef`] (gRPC).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// Identifier to echo.
    pub id: Option<String>,
    /// Parameters of the request, without `binary_data_output`, which is in `outputs`.
    pub parameters: Parameters,
    /// Input tensors.
    pub inputs: Vec<Tensor>,
    /// Wanted outputs.
    pub outputs: RequestedOutputs,
}

impl InferRequest {
    /// The input `name`.
    pub fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.iter().find(|tensor| tensor.name() == name)
    }
}

/// An inference response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model that answered.
    pub model_name: String,
    /// Its version.
    pub model_version: Option<String>,
    /// The request's identifier.
    pub id: Option<String>,
    /// Parameters of the response.
    pub parameters: Parameters,
    /// Output tensors.
    pub outputs: Vec<Tensor>,
}

impl InferResponse {
    /// The output `name`.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|tensor| tensor.name() == name)
    }

    /// Rows: the first dimension of the first output. `None` without one.
    pub fn rows(&self) -> Option<i64> {
        self.outputs.first().map(Tensor::shape).and_then(Shape::rows)
    }
}

/// A model, and maybe one version of it, as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// Name of the model, percent-decoded.
    pub name: String,
    /// Version; `None` lets the server choose.
    pub version: Option<String>,
}

impl ModelRef {
    /// The model `name`, in the version that its server chooses.
    pub fn new(name: impl Into<String>) -> ModelRef {
        ModelRef {
            name: name.into(),
            version: None,
        }
    }
}

/// How numbers without a JSON form (NaN and the infinities) are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NanPolicy {
    /// As `null`: valid JSON, the value is lost.
    #[default]
    Null,
    /// As `NaN`, `Infinity`, `-Infinity`: what Triton does; not JSON, but Python reads it.
    Literal,
    /// Not at all: [`crate::ProtocolError::NotFinite`].
    Error,
}
