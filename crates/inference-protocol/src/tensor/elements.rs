//! The Rust types that stand for the fixed-width datatypes.

use bytemuck::{CheckedBitPattern, NoUninit};
use half::{bf16, f16};

use crate::Datatype;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose slices are the little-endian bytes of one datatype.
///
/// Implemented for `bool`, the integers, [`half::f16`], [`half::bf16`], `f32` and `f64`; sealed.
pub trait Element: CheckedBitPattern + NoUninit + Send + Sync + sealed::Sealed + 'static {
    /// The datatype of this type.
    const DATATYPE: Datatype;
}

macro_rules! elements {
    ($($rust:ty => $datatype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DATATYPE: Datatype = Datatype::$datatype;
        }
    )*};
}

elements! {
    bool => Bool,
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f16 => Fp16,
    bf16 => Bf16,
    f32 => Fp32,
    f64 => Fp64,
}

// Values are kept as the wire has them, so that a slice of a received body can be handed on as it is.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "tensors are views of little-endian wire bytes"
);
