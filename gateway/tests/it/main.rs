//! The gateway with real sockets, between real clients and scripted predictors.

mod access;
mod access_log;
mod bad_input;
mod certificates;
mod cors;
mod grpc_web;
mod guard;
mod handover;
mod kubernetes;
mod limits;
mod observe;
mod protection;
mod protocols;
mod resilience;
mod revisions;
mod routes;
mod support;
mod traces;
mod write_timeout;
