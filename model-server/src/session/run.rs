//! One run, through ONNX Runtime's C API as `ort` opens it.
//!
//! `ort`'s own `run` copies names and builds a memory description for each tensor of each call, and cannot make
//! string tensors with a NUL in them. Here names and description are made once, input tensors are views of the
//! request's buffers, and output tensors own ONNX Runtime's buffers until the reply is written.

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;
use ort::AsPointer as _;
use ort::session::SharedSessionInner;
use ort::sys;
use ort::value::TensorElementType;
use plumbline_inference_protocol::{Datatype, Shape, StringData, StringDataBuilder, Tensor, TensorData};
use smallvec::SmallVec;

use super::{Session, datatype_of};

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunError {
    /// The values do not suit the model: an index out of range, dimensions that must agree and do not.
    #[error("the model cannot run with these values: {reason}")]
    Unsuitable {
        /// What the operator says.
        reason: String,
    },
    /// Anything else.
    #[error("{reason}")]
    Failed {
        /// What ONNX Runtime says.
        reason: String,
    },
}

/// Inputs start at a multiple of this many bytes, that of an SSE or NEON register. Kernels add up what lies before the
/// first such address on its own, so that the last bits of a sum would depend on where a client's bytes happen to lie.
/// Allocators return such addresses; only slices of a received body may have to be copied.
const ALIGNMENT: usize = align_of::<u128>();

/// Tensors of a request or a reply; most models have few.
const FEW: usize = 8;

impl Session {
    /// Runs the model. `inputs` are the model's, in any order, of its datatypes; `outputs` are positions among its
    /// outputs, and the reply has them in that order.
    ///
    /// # Errors
    /// [`RunError`].
    pub(crate) fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let mut copies: SmallVec<[Vec<u128>; 1]> = SmallVec::new();
        let mut values: SmallVec<[Value; FEW]> = SmallVec::with_capacity(inputs.len());
        let mut names: SmallVec<[*const std::ffi::c_char; FEW]> = SmallVec::with_capacity(inputs.len());
        let mut lent: SmallVec<[Range<usize>; FEW]> = SmallVec::with_capacity(inputs.len());
        for (index, tensor) in inputs.iter().enumerate() {
            names.push(self.input_name(index, tensor.name())?);
            values.push(self.input_value(tensor, &mut copies, &mut lent)?);
        }
        let pointers: SmallVec<[*const sys::OrtValue; FEW]> =
            values.iter().map(|value| value.0.as_ptr().cast_const()).collect();
        let output_names: SmallVec<[*const std::ffi::c_char; FEW]> = outputs
            .iter()
            .map(|&output| self.names.outputs[output].1.as_ptr())
            .collect();
        let mut results: SmallVec<[*mut sys::OrtValue; FEW]> =
            SmallVec::from_elem(ptr::null_mut(), outputs.len());
        // SAFETY: every array lives until the call returns and has the length given; `&mut self` keeps others from
        // running this session at the same time; inputs are only read.
        let status = unsafe {
            (ort::api().Run)(
                self.ort.ptr().cast_mut(),
                ptr::null(),
                names.as_ptr(),
                pointers.as_ptr(),
                pointers.len(),
                output_names.as_ptr(),
                output_names.len(),
                results.as_mut_ptr(),
            )
        };
        // Owned before the status is looked at, so that a failed run leaks nothing.
        let results: SmallVec<[Option<Value>; FEW]> = results.into_iter().map(Value::from_raw).collect();
        check(status)?;
        let inner = self.ort.inner();
        let mut tensors = Vec::with_capacity(outputs.len());
        for (&output, value) in outputs.iter().zip(results) {
            let name = &self.names.outputs[output].0;
            let Some(value) = value else {
                return Err(RunError::Failed {
                    reason: format!("output `{name}` is absent"),
                });
            };
            tensors.push(value.into_tensor(name, &inner, &lent)?);
        }
        Ok(tensors)
    }

    /// Requests mostly have the model's order, so that place is tried first.
    fn input_name(&self, index: usize, name: &str) -> Result<*const std::ffi::c_char, RunError> {
        let all = &self.names.inputs;
        let found = all.get(index).filter(|(at_index, _)| at_index == name);
        match found.or_else(|| all.iter().find(|(other, _)| other == name)) {
            Some((_, c_name)) => Ok(c_name.as_ptr()),
            None => Err(RunError::Failed {
                reason: format!("no input `{name}`"),
            }),
        }
    }

    /// An input as ONNX Runtime's value: a view of `tensor`, or of an aligned copy that is left in `copies`.
    /// Where the view lies is added to `lent`.
    fn input_value(
        &self,
        tensor: &Tensor,
        copies: &mut SmallVec<[Vec<u128>; 1]>,
        lent: &mut SmallVec<[Range<usize>; FEW]>,
    ) -> Result<Value, RunError> {
        let dimensions = tensor.shape().dimensions();
        if let Some(strings) = tensor.data().as_strings() {
            return string_value(dimensions, strings);
        }
        let bytes = tensor.data().as_le_bytes().map_or(&[][..], |bytes| &bytes[..]);
        let aligned = if bytes.as_ptr().align_offset(ALIGNMENT) == 0 {
            bytes
        } else {
            let mut copy = vec![0_u128; bytes.len().div_ceil(ALIGNMENT)];
            bytemuck::cast_slice_mut::<u128, u8>(&mut copy)[..bytes.len()].copy_from_slice(bytes);
            copies.push(copy);
            let copy = copies.last().map_or(&[][..], Vec::as_slice);
            &bytemuck::cast_slice::<u128, u8>(copy)[..bytes.len()]
        };
        lent.push(aligned.as_ptr().addr()..aligned.as_ptr().addr() + aligned.len());
        let mut value = ptr::null_mut();
        // SAFETY: the bytes are those of `tensor` or of `copies`, which both outlive the value (moving a `Vec` does
        // not move its buffer); they are aligned for any element type and as many as the shape says, as `Tensor`
        // guarantees; ONNX Runtime does not write to inputs.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                self.memory.ptr(),
                aligned.as_ptr().cast_mut().cast(),
                aligned.len(),
                dimensions.as_ptr(),
                dimensions.len(),
                element_of(tensor.datatype()).into(),
                &raw mut value,
            )
        };
        check(status)?;
        Value::created(value)
    }
}

/// A string tensor: ONNX Runtime keeps strings of its own, so that the bytes are copied once.
fn string_value(dimensions: &[i64], strings: &StringData) -> Result<Value, RunError> {
    let api = ort::api();
    let mut allocator = ptr::null_mut();
    // SAFETY: the default allocator lives as long as the library and is not released.
    check(unsafe { (api.GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
    let mut value = ptr::null_mut();
    // SAFETY: the shape lives until the call returns.
    let status = unsafe {
        (api.CreateTensorAsOrtValue)(
            allocator,
            dimensions.as_ptr(),
            dimensions.len(),
            TensorElementType::String.into(),
            &raw mut value,
        )
    };
    check(status)?;
    let value = Value::created(value)?;
    for (index, string) in strings.iter().enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: the tensor has as many elements as `strings`; the call makes element `index` a string of that
        // length and returns where it lies.
        let status = unsafe {
            (api.GetResizedStringTensorElementBuffer)(value.0.as_ptr(), index, string.len(), &raw mut buffer)
        };
        check(status)?;
        // SAFETY: the buffer was just made for `string.len()` bytes, and does not overlap the request's.
        unsafe { ptr::copy_nonoverlapping(string.as_ptr(), buffer.cast::<u8>(), string.len()) };
    }
    Ok(value)
}

/// An owned `OrtValue`.
struct Value(NonNull<sys::OrtValue>);

// SAFETY: a value is plain memory behind a reference-counted allocator that any thread may use; it is not shared.
unsafe impl Send for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

impl Value {
    fn from_raw(value: *mut sys::OrtValue) -> Option<Value> {
        NonNull::new(value).map(Value)
    }

    fn created(value: *mut sys::OrtValue) -> Result<Value, RunError> {
        Value::from_raw(value).ok_or_else(|| RunError::Failed {
            reason: "no value was created".to_owned(),
        })
    }

    /// `lent` are the inputs' buffers: an output that lies in one (an input handed through) is copied, for it has to
    /// outlive the request.
    fn into_tensor(
        self,
        name: &str,
        session: &Arc<SharedSessionInner>,
        lent: &[Range<usize>],
    ) -> Result<Tensor, RunError> {
        let api = ort::api();
        let unexpected = |what: &str| RunError::Failed {
            reason: format!("output `{name}`: {what}"),
        };
        let mut element = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let (mut dimensions, mut rank) = (ptr::null(), 0);
        // SAFETY: the out-pointers are valid; the dimensions belong to the value and are copied below.
        check(unsafe {
            (api.GetTensorElementTypeAndShapeDataReference)(
                self.0.as_ptr(),
                &raw mut element,
                &raw mut dimensions,
                &raw mut rank,
            )
        })?;
        let shape = if rank == 0 {
            Shape::default() // of a scalar there may be no dimensions to point to
        } else {
            // SAFETY: `rank` dimensions, which live as long as the value.
            Shape::new(unsafe { std::slice::from_raw_parts(dimensions, rank) })
        };
        let datatype =
            datatype_of(element.into()).ok_or_else(|| unexpected("not a datatype of the protocol"))?;
        let count = shape
            .element_count()
            .map_err(|error| unexpected(&error.to_string()))?;
        let data = match datatype.width() {
            None => TensorData::from_strings(self.strings(count)?),
            Some(width) => {
                let mut start = ptr::null_mut();
                // SAFETY: the value is a tensor of fixed-width elements in the CPU's memory.
                check(unsafe { (api.GetTensorMutableData)(self.0.as_ptr(), &raw mut start) })?;
                let bytes = match NonNull::new(start.cast::<u8>()) {
                    Some(start) if count > 0 => {
                        let is_lent = lent.iter().any(|buffer| buffer.contains(&start.addr().get()));
                        let (value, session) = (self, Arc::clone(session));
                        let output = Output {
                            start,
                            len: count * width,
                            value,
                            session,
                        };
                        if is_lent {
                            Bytes::copy_from_slice(output.as_ref())
                        } else {
                            Bytes::from_owner(output)
                        }
                    }
                    _ => Bytes::new(),
                };
                TensorData::from_le_bytes(datatype, bytes)
                    .ok_or_else(|| unexpected("its bytes are not of its datatype"))?
            }
        };
        Tensor::new(name, shape, data).map_err(|error| unexpected(&error.to_string()))
    }

    fn strings(&self, count: usize) -> Result<StringData, RunError> {
        let api = ort::api();
        let mut length = 0;
        // SAFETY: the value is a string tensor.
        check(unsafe { (api.GetStringTensorDataLength)(self.0.as_ptr(), &raw mut length) })?;
        let mut text = vec![0_u8; length];
        let mut offsets = vec![0_usize; count];
        // SAFETY: room for all bytes and for the offset of each element.
        check(unsafe {
            (api.GetStringTensorContent)(
                self.0.as_ptr(),
                text.as_mut_ptr().cast(),
                length,
                offsets.as_mut_ptr(),
                count,
            )
        })?;
        let mut strings = StringDataBuilder::with_capacity(count, length);
        for (index, &start) in offsets.iter().enumerate() {
            let end = offsets.get(index + 1).copied().unwrap_or(length);
            if !text.get(start..end).is_some_and(|string| strings.push(string)) {
                return Err(RunError::Failed {
                    reason: "string output of 4 GiB or more".to_owned(),
                });
            }
        }
        Ok(strings.finish())
    }
}

/// A tensor's memory, kept until the last view of it is gone.
struct Output {
    start: NonNull<u8>,
    len: usize,
    #[expect(
        dead_code,
        reason = "owns the memory; dropped before the session that made it"
    )]
    value: Value,
    #[expect(dead_code, reason = "owns the allocator of the memory")]
    session: Arc<SharedSessionInner>,
}

// SAFETY: read-only memory that the value owns, and a session that is only kept.
unsafe impl Send for Output {}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes at `start` belong to the value and are not written any more.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

fn check(status: sys::OrtStatusPtr) -> Result<(), RunError> {
    // SAFETY: a status that a call just returned, passed on once.
    let result = unsafe { ort::Error::result_from_status(status) };
    result.map_err(|error| classify(error.message(), error.code()))
}

/// A model that has run with zeros and does not run with these values is given the wrong ones, whatever status its
/// operators choose: `MatMul` says `FAIL` for dimensions that do not match, `Gather` says `INVALID_ARGUMENT` for an
/// index out of range.
fn classify(message: &str, code: ort::ErrorCode) -> RunError {
    match message.split_once("Non-zero status code returned while running ") {
        Some((_, rest)) => {
            let operator = rest.split(' ').next().unwrap_or_default();
            let cause = cause(
                rest.split_once("Status Message: ")
                    .map_or(rest, |(_, cause)| cause),
            );
            RunError::Unsuitable {
                reason: format!("operator {operator}: {cause}"),
            }
        }
        None if code == ort::ErrorCode::InvalidArgument => RunError::Unsuitable {
            reason: cause(message).to_owned(),
        },
        None => RunError::Failed {
            reason: message.trim().to_owned(),
        },
    }
}

/// What an operator says, without the place in ONNX Runtime's sources where it says so.
fn cause(message: &str) -> &str {
    let message = message.trim();
    // A failed check prints file, function, condition, "was false." and its sentence.
    if let Some((_, sentence)) = message.split_once(" was false. ") {
        return sentence;
    }
    // Others print file, function and sentence.
    let place = message
        .split_once(' ')
        .filter(|(file, _)| file.contains(".h:") || file.contains(".cc:"));
    place
        .and_then(|(_, rest)| rest.split_once(' '))
        .map_or(message, |(_function, sentence)| sentence)
}

fn element_of(datatype: Datatype) -> TensorElementType {
    match datatype {
        Datatype::Bool => TensorElementType::Bool,
        Datatype::Uint8 => TensorElementType::Uint8,
        Datatype::Uint16 => TensorElementType::Uint16,
        Datatype::Uint32 => TensorElementType::Uint32,
        Datatype::Uint64 => TensorElementType::Uint64,
        Datatype::Int8 => TensorElementType::Int8,
        Datatype::Int16 => TensorElementType::Int16,
        Datatype::Int32 => TensorElementType::Int32,
        Datatype::Int64 => TensorElementType::Int64,
        Datatype::Fp16 => TensorElementType::Float16,
        Datatype::Bf16 => TensorElementType::Bfloat16,
        Datatype::Fp32 => TensorElementType::Float32,
        Datatype::Fp64 => TensorElementType::Float64,
        Datatype::Bytes => TensorElementType::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_say_is_told_without_their_sources() {
        let node = |message: &str| {
            format!(
                "Non-zero status code returned while running MatMul node. Name:'' Status Message: {message}"
            )
        };
        for (message, told) in [
            (
                node("matmul_helper.h:59 Compute MatMul dimension mismatch"),
                "operator MatMul: MatMul dimension mismatch",
            ),
            (
                node(
                    "/onnxruntime_src/onnxruntime/core/reshape_helper.h:91 onnxruntime::ReshapeHelper(const X&, bool) \
                     a == b was false. The input tensor cannot be reshaped.\n",
                ),
                "operator MatMul: The input tensor cannot be reshaped.",
            ),
            (
                node("indices element out of data bounds"),
                "operator MatMul: indices element out of data bounds",
            ),
        ] {
            let error = classify(&message, ort::ErrorCode::GenericFailure);
            assert_eq!(
                error,
                RunError::Unsuitable {
                    reason: told.to_owned()
                }
            );
        }
        let failed = classify("out of threads", ort::ErrorCode::GenericFailure);
        assert_eq!(
            failed,
            RunError::Failed {
                reason: "out of threads".to_owned()
            }
        );
    }
}
