//! One session of a model with nothing around it: what a run costs ONNX Runtime alone.

use std::path::Path;

use plumbline_inference_protocol::Tensor;

use super::content::Content;
use super::load::{LoadProblem, servable};
use super::signature::Specs;
use super::warm_up::zeros;
use crate::library::Library;
use crate::session::Session;

/// A model to be run by its owner, in the session that the server would build, on one fixed request of zeros (empty
/// strings). Serving costs are told against its runs.
pub struct BareModel {
    session: Session,
    inputs: Vec<Tensor>,
    outputs: Vec<usize>,
}

impl BareModel {
    /// Loads `file`; each run is of `rows` rows.
    ///
    /// # Errors
    /// [`LoadProblem`].
    pub fn load(library: &Library, file: &Path, rows: u32) -> Result<BareModel, LoadProblem> {
        let content = Content::read(file, "")?;
        let (model, description) = servable(&content.onnx)?;
        let session = Session::build(library, &model, &content.external)?;
        let specs = Specs::of(&session, &description)?;
        Ok(BareModel {
            inputs: zeros(&specs.inputs, i64::from(rows)),
            outputs: (0..specs.outputs.len()).collect(),
            session,
        })
    }

    /// One run, its outputs read and released; the number of bytes in them.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn run(&mut self) -> Result<usize, String> {
        let outputs = self
            .session
            .run(&self.inputs, &self.outputs)
            .map_err(|error| error.to_string())?;
        let bytes = |tensor: &Tensor| tensor.data().as_le_bytes().map_or(0, bytes::Bytes::len);
        Ok(outputs.iter().map(bytes).sum())
    }
}
