//! `OrtValue`s: owned, made of strings, and turned into tensors of the protocol.

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;
use ort::session::SharedSessionInner;
use ort::sys;
use ort::value::TensorElementType;
use plumbline_inference_protocol::{Datatype, Shape, StringData, StringDataBuilder, Tensor, TensorData};

use super::status::check;
use super::{RunError, datatype_of};

/// A string tensor: ONNX Runtime keeps strings of its own, so that the bytes are copied once.
pub(super) fn string_value(dimensions: &[i64], strings: &StringData) -> Result<Value, RunError> {
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
pub(super) struct Value(pub(super) NonNull<sys::OrtValue>);

// SAFETY: a value is plain memory behind a reference-counted allocator that any thread may use; it is not shared.
unsafe impl Send for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

impl Value {
    pub(super) fn from_raw(value: *mut sys::OrtValue) -> Option<Value> {
        NonNull::new(value).map(Value)
    }

    pub(super) fn created(value: *mut sys::OrtValue) -> Result<Value, RunError> {
        Value::from_raw(value).ok_or_else(|| RunError::Failed {
            reason: "no value was created".to_owned(),
        })
    }

    /// Whether an optional value is there.
    pub(super) fn is_present(&self) -> Result<bool, RunError> {
        let mut present = 0;
        // SAFETY: the value is one.
        check(unsafe { (ort::api().HasValue)(self.0.as_ptr(), &raw mut present) })?;
        Ok(present != 0)
    }

    /// The elements of a sequence.
    pub(super) fn elements(&self) -> Result<Vec<Value>, RunError> {
        let mut count = 0;
        // SAFETY: the value is one; any but a sequence or a map is refused.
        check(unsafe { (ort::api().GetValueCount)(self.0.as_ptr(), &raw mut count) })?;
        (0..count).map(|index| self.element(index)).collect()
    }

    /// An element of a sequence; 0 are a map's keys, 1 its values, in the keys' order. It is copied.
    pub(super) fn element(&self, index: usize) -> Result<Value, RunError> {
        let api = ort::api();
        let index = i32::try_from(index).map_err(|_| RunError::Failed {
            reason: "a sequence of more than 2³¹ values".to_owned(),
        })?;
        let mut allocator = ptr::null_mut();
        // SAFETY: the default allocator lives as long as the library and is not released.
        check(unsafe { (api.GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
        let mut element = ptr::null_mut();
        // SAFETY: an index out of range is refused.
        check(unsafe { (api.GetValue)(self.0.as_ptr(), index, allocator, &raw mut element) })?;
        Value::created(element)
    }

    /// `lent` are the inputs' buffers: an output that lies in one (an input handed through) is copied, for it has to
    /// outlive the request.
    pub(super) fn into_tensor(
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

pub(super) fn element_of(datatype: Datatype) -> TensorElementType {
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
