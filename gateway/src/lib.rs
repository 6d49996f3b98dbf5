//! Admits, routes and forwards inference requests.
