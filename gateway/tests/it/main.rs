//! The gateway with real sockets, between real clients and scripted predictors.

mod limits;
mod malformed;
mod observe;
mod protection;
mod protocols;
mod resilience;
mod revisions;
mod support;
