//! Keeps the frames of a request's body while they are sent on.

use bytes::Bytes;

use super::task::Copy;

/// The copy of a request that is on its way.
#[derive(Debug)]
pub(crate) struct Tee {
    kept: Option<(Copy, Vec<Bytes>)>,
    /// Bytes that came already, and that are yet to come once more.
    came: usize,
    again: usize,
}

impl Tee {
    pub(super) fn new(copy: Copy) -> Self {
        Self {
            kept: Some((copy, Vec::new())),
            came: 0,
            again: 0,
        }
    }

    /// Keeps a frame, or gives the copy up when the budget has no room for it.
    pub(crate) fn push(&mut self, data: &Bytes) {
        let Some((copy, frames)) = &mut self.kept else {
            return;
        };
        let known = self.again.min(data.len());
        self.again -= known;
        let data = data.slice(known..);
        self.came += data.len();
        if data.is_empty() {
            return;
        }
        if copy.slot.hold(data.len()) {
            frames.push(data);
        } else {
            copy.slot.metrics().dropped_bytes.inc();
            self.kept = None;
        }
    }

    /// The body is sent once more from its beginning.
    pub(crate) fn rewind(&mut self) {
        self.again = self.came;
    }

    /// The body has been sent on to its end: the copy goes its own way.
    pub(crate) fn end(&mut self) {
        if let Some((copy, frames)) = self.kept.take() {
            copy.spawn(frames);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if let Some((copy, _)) = &self.kept {
            copy.slot.metrics().dropped_incomplete.inc();
        }
    }
}
