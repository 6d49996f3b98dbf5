//! The command line, as a user runs it.

mod offline;
mod onnx;
mod profiles;
mod stack;
mod support;
