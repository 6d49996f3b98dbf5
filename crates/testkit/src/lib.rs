//! Fakes for tests: each listens on loopback, port 0, and is driven by events instead of delays.

pub mod event_sink;
pub mod gemini;
pub mod predictor;
