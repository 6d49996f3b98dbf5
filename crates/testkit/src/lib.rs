//! Fakes for tests: each listens on loopback, port 0, and is driven by events instead of delays. Also the check that the
//! documentation of the metrics is what the code declares.

pub mod allocations;
pub mod collector;
pub mod documentation;
pub mod event_sink;
pub mod gemini;
pub mod github;
pub mod kubernetes;
pub mod malformed;
pub mod ollama;
pub mod openai;
pub mod predictor;
pub mod slack;
