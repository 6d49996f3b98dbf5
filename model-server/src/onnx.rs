//! Reads and edits ONNX files at the level of the wire: only the fields that decide how a model is served are
//! understood, every other byte is carried along as it is, so that files of any version survive an edit.
//!
//! [`describe`] tells what a file is; [`without_zip_maps`] makes stock converter output servable.

mod classes;
mod describe;
mod edit;
mod external;
mod graph;
mod mapping;
mod types;
mod wire;

pub(crate) use self::classes::Probabilities;
pub use self::describe::FileError;
pub(crate) use self::describe::Opset;
pub(crate) use self::describe::{OnnxModel, describe};
pub(crate) use self::edit::without_zip_maps;
pub(crate) use self::external::external_files;
pub(crate) use self::mapping::Mapping;
pub(crate) use self::types::ValueInfo;
pub use self::types::{Dimension, ValueType};
