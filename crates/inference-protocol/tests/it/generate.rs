//! Tensors, requests and responses of every kind.

use bytes::Bytes;
use plumbline_inference_protocol::{
    Datatype, InferRequest, InferResponse, ModelRef, ParameterValue, Parameters, RequestedOutput,
    RequestedOutputs, Tensor, TensorData,
};
use proptest::{collection::vec, option, prelude::*};

/// What the encoding under test can carry.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Carries {
    /// Everything: raw bytes.
    AnyBits,
    /// What typed lists can: no half precision, any bits of the others.
    Typed,
    /// What JSON can: no half precision, finite numbers, text that is UTF-8.
    Json,
}

fn data(datatype: Datatype, count: usize, carries: Carries) -> BoxedStrategy<TensorData> {
    let Some(width) = datatype.width() else {
        return if carries == Carries::Json {
            vec(".{0,6}", count)
                .prop_map(|texts| TensorData::from_strings(texts.into_iter().collect()))
                .boxed()
        } else {
            let values = vec(vec(any::<u8>(), 0..6), count);
            values
                .prop_map(|values| TensorData::from_strings(values.into_iter().collect()))
                .boxed()
        };
    };
    match datatype {
        Datatype::Bool => vec(any::<bool>(), count).prop_map(TensorData::from_vec).boxed(),
        Datatype::Fp32 if carries == Carries::Json => {
            vec(finite_f32(), count).prop_map(TensorData::from_vec).boxed()
        }
        Datatype::Fp64 if carries == Carries::Json => {
            vec(finite_f64(), count).prop_map(TensorData::from_vec).boxed()
        }
        _ => vec(any::<u8>(), count * width)
            .prop_map(move |bytes| {
                TensorData::from_le_bytes(datatype, Bytes::from(bytes)).expect("any bits are a value")
            })
            .boxed(),
    }
}

fn finite_f32() -> impl Strategy<Value = f32> {
    any::<u32>()
        .prop_map(f32::from_bits)
        .prop_filter("JSON has finite numbers", |value| value.is_finite())
}

fn finite_f64() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("JSON has finite numbers", |value| value.is_finite())
}

fn parameter() -> impl Strategy<Value = ParameterValue> {
    prop_oneof![
        any::<bool>().prop_map(ParameterValue::Bool),
        any::<i64>().prop_map(ParameterValue::Int),
        (i64::MAX as u64 + 1..).prop_map(ParameterValue::Uint),
        // A number without a fraction would come back from JSON as an integer.
        any::<i32>().prop_map(|value| ParameterValue::Double(f64::from(value) + 0.5)),
        ".{0,8}".prop_map(ParameterValue::String),
    ]
}

/// Sorted by name, as a message has no order; names of the test's own.
fn parameters() -> impl Strategy<Value = Parameters> {
    proptest::collection::btree_map("p[a-z]{1,4}", parameter(), 0..3)
        .prop_map(|map| map.into_iter().collect())
}

pub(crate) fn tensor(name: String, carries: Carries) -> impl Strategy<Value = Tensor> {
    let datatypes: Vec<Datatype> = Datatype::ALL
        .into_iter()
        .filter(|datatype| carries == Carries::AnyBits || datatype.in_json())
        .collect();
    (proptest::sample::select(datatypes), vec(0_i64..4, 0..4)).prop_flat_map(move |(datatype, shape)| {
        let name = name.clone();
        let count = shape.iter().product::<i64>() as usize;
        (data(datatype, count, carries), parameters()).prop_map(move |(data, parameters)| {
            let mut tensor =
                Tensor::new(name.clone(), shape.clone(), data).expect("the count is that of the shape");
            tensor.parameters = parameters;
            tensor
        })
    })
}

fn tensors(least: usize, carries: Carries) -> impl Strategy<Value = Vec<Tensor>> {
    (least..4_usize).prop_flat_map(move |count| {
        (0..count)
            .map(|index| tensor(format!("tensor {index}\""), carries))
            .collect::<Vec<_>>()
    })
}

fn requested() -> impl Strategy<Value = RequestedOutputs> {
    let output = (
        ".{1,6}",
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        parameters(),
    )
        .prop_map(
            |(name, binary_data, classification, parameters)| RequestedOutput {
                name,
                binary_data,
                classification,
                parameters,
            },
        );
    (option::of(any::<bool>()), vec(output, 0..3)).prop_map(|(binary_data_output, list)| RequestedOutputs {
        binary_data_output,
        list,
    })
}

pub(crate) fn request(carries: Carries) -> impl Strategy<Value = InferRequest> {
    (
        option::of(".{1,8}"),
        parameters(),
        tensors(1, carries),
        requested(),
    )
        .prop_map(|(id, parameters, inputs, outputs)| InferRequest {
            id,
            parameters,
            inputs,
            outputs,
        })
}

pub(crate) fn response(carries: Carries) -> impl Strategy<Value = InferResponse> {
    (
        ".{0,8}",
        option::of("[0-9]{1,3}"),
        option::of(".{1,8}"),
        parameters(),
        tensors(0, carries),
    )
        .prop_map(
            |(model_name, model_version, id, parameters, outputs)| InferResponse {
                model_name,
                model_version,
                id,
                parameters,
                outputs,
            },
        )
}

pub(crate) fn model() -> impl Strategy<Value = ModelRef> {
    (".{0,8}", option::of("[0-9]{1,3}")).prop_map(|(name, version)| ModelRef { name, version })
}

/// A tensor: name, datatype, shape, raw values, parameters.
type Bits<'a> = (&'a str, Datatype, &'a [i64], Vec<u8>, &'a Parameters);

/// Values compared by their bits: NaN is NaN, and -0 is not 0.
pub(crate) fn bits(tensors: &[Tensor]) -> Vec<Bits<'_>> {
    let bits = |tensor: &Tensor| match (tensor.data().as_le_bytes(), tensor.data().as_strings()) {
        (Some(bytes), _) => bytes.to_vec(),
        (None, strings) => {
            let mut out = Vec::new();
            strings
                .expect("values are of fixed width or strings")
                .write_length_prefixed(&mut out);
            out
        }
    };
    tensors
        .iter()
        .map(|tensor| {
            let shape = tensor.shape().dimensions();
            (
                tensor.name(),
                tensor.datatype(),
                shape,
                bits(tensor),
                &tensor.parameters,
            )
        })
        .collect()
}
