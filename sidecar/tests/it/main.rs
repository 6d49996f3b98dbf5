//! The sidecar over real sockets, with a scripted model server behind it.

mod datatypes;
mod events;
mod feedback;
mod forwarding;
mod grpc;
mod harness;
mod kept_predictions;
mod lifecycle;
mod logger;
mod malformed;
mod model;
mod observing;
mod program;
mod replaced;
mod seasons;
mod segments;
mod state;
mod tls;
mod traces;
