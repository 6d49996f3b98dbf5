//! The command line, as a user runs it.

mod offline;
mod onnx;
mod stack;
mod support;
