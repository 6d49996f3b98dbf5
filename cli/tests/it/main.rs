//! The command line, as a user runs it.

mod feedback;
mod offline;
mod onnx;
mod profiles;
mod stack;
mod support;
