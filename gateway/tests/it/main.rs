//! The gateway with real sockets, between real clients and scripted predictors.

mod access;
mod bad_input;
mod certificates;
mod kubernetes;
mod limits;
mod observe;
mod protocols;
mod resilience;
mod revisions;
mod routes;
mod support;
