//! The model server on real sockets with the real ONNX Runtime. `make setup` places the library; without it every
//! test here fails and says so.

mod body;
mod check;
mod errors;
mod extensions;
mod grpc;
mod lifecycle;
mod models;
mod openapi;
mod optimized;
mod outputs;
mod rest;
mod scheduling;
mod services;
mod start;
mod stream;
mod support;
mod v1;
