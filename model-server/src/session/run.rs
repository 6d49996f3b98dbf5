//! One run, through ONNX Runtime's C API as `ort` opens it.
//!
//! `ort`'s own `run` copies names and builds a memory description for each tensor of each call, and cannot make
//! string tensors with a NUL in them. Here names and description are made once, input tensors are views of the
//! request's buffers, and output tensors own ONNX Runtime's buffers until the reply is written.

use std::ops::Range;
use std::ptr;

use ort::AsPointer as _;
use ort::sys;
use plumbline_inference_protocol::Tensor;
use smallvec::SmallVec;

use super::Session;
use super::nested::tensors_of;
use super::status::check;
use super::value::{Value, element_of, string_value};

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
    /// outputs, and the reply has them in that order; of an output that is a sequence there may be several tensors.
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
                self.options.as_ptr(),
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
            match &self.names.mappings[output] {
                None => tensors.push(value.into_tensor(name, &inner, &lent)?),
                Some(mapping) => tensors.extend(tensors_of(value, name, mapping, &inner, &lent)?),
            }
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
