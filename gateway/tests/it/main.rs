//! The gateway with real sockets, between real clients and scripted predictors.

mod kubernetes;
mod limits;
mod malformed;
mod observe;
mod protocols;
mod resilience;
mod revisions;
mod support;
