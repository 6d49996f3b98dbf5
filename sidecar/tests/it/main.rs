//! The sidecar over real sockets, with a scripted model server behind it.

mod events;
mod forwarding;
mod grpc;
mod harness;
mod malformed;
mod model;
mod observing;
mod program;
