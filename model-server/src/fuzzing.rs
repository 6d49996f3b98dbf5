//! Doors for the fuzz targets in `fuzz/`, which reach what is private. Nobody else uses them.

use crate::onnx::{OnnxModel, describe, without_zip_maps};
use crate::repository::parse_model_toml;

/// Reads a file as ONNX; what can be read can be edited, and what was edited can be read.
///
/// # Panics
/// When that does not hold.
pub fn onnx(file: &[u8]) {
    let Ok(model) = describe(file) else { return };
    let OnnxModel { zip_maps, .. } = &model;
    if !zip_maps.is_empty() {
        let edited = without_zip_maps(file, &model);
        let again = describe(&edited).expect("an edited model can be read");
        assert!(again.zip_maps.is_empty(), "the edit removes what it was made for");
    }
}

/// Reads a `model.toml`.
pub fn model_toml(text: &str) {
    if let Err(problem) = parse_model_toml(text) {
        assert!(problem.starts_with("line "), "{problem}");
    }
}
