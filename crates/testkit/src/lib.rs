//! Fakes for tests: predictor, Gemini, event sink.
