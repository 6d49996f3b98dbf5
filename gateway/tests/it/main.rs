//! The gateway with real sockets, between real clients and scripted predictors.

mod access;
mod bad_input;
mod certificates;
mod guard;
mod kubernetes;
mod limits;
mod observe;
mod protection;
mod protocols;
mod resilience;
mod revisions;
mod routes;
mod support;
