//! Explicit mode: models are loaded and unloaded by request.
