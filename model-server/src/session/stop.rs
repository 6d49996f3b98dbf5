//! The means to end a run from another thread.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use ort::sys;
use plumbline_inference_protocol::Tensor;

use super::status::check;
use super::{RunError, Session};
use crate::scheduler::{Runner, Stop};

/// The options of a session's runs: ONNX Runtime looks at their terminate flag before each operator.
#[derive(Debug)]
pub(super) struct RunOptions(NonNull<sys::OrtRunOptions>);

// SAFETY: the flag is what ONNX Runtime made for other threads to set; nothing else is changed after creation.
unsafe impl Send for RunOptions {}
// SAFETY: as above.
unsafe impl Sync for RunOptions {}

impl RunOptions {
    pub(super) fn new() -> Result<RunOptions, RunError> {
        let mut options = ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        check(unsafe { (ort::api().CreateRunOptions)(&raw mut options) })?;
        NonNull::new(options)
            .map(RunOptions)
            .ok_or_else(|| RunError::Failed {
                reason: "no run options were created".to_owned(),
            })
    }

    pub(super) fn as_ptr(&self) -> *const sys::OrtRunOptions {
        self.0.as_ptr()
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseRunOptions)(self.0.as_ptr()) };
    }
}

impl Stop for RunOptions {
    fn stop(&self) {
        // SAFETY: the options live as long as `self`; the call sets a flag.
        let status = unsafe { (ort::api().RunOptionsSetTerminate)(self.0.as_ptr()) };
        if let Err(error) = check(status) {
            tracing::error!(%error, "a run cannot be ended");
        }
    }

    fn reset(&self) {
        // SAFETY: as above.
        let status = unsafe { (ort::api().RunOptionsUnsetTerminate)(self.0.as_ptr()) };
        if let Err(error) = check(status) {
            tracing::error!(%error, "a session stays terminated");
        }
    }
}

impl Runner for Session {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        Session::run(self, inputs, outputs)
    }

    fn stop(&self) -> Arc<dyn Stop> {
        Arc::clone(&self.options) as _
    }
}
