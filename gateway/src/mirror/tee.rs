//! Keeps the frames of a request's body while they are sent on.

use bytes::Bytes;

use super::task::Copy;

/// The copy of a request that is on its way.
#[derive(Debug)]
pub(crate) struct Tee(Option<(Copy, Vec<Bytes>)>);

impl Tee {
    pub(super) fn new(copy: Copy) -> Self {
        Self(Some((copy, Vec::new())))
    }

    /// Keeps a frame, or gives the copy up when the budget has no room for it.
    pub(crate) fn push(&mut self, data: &Bytes) {
        let Some((copy, frames)) = &mut self.0 else {
            return;
        };
        if copy.slot.hold(data.len()) {
            frames.push(data.clone());
        } else {
            copy.slot.metrics().dropped_bytes.inc();
            self.0 = None;
        }
    }

    /// The body has been sent on to its end: the copy goes its own way.
    pub(crate) fn end(&mut self) {
        if let Some((copy, frames)) = self.0.take() {
            copy.spawn(frames);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if let Some((copy, _)) = &self.0 {
            copy.slot.metrics().dropped_incomplete.inc();
        }
    }
}
