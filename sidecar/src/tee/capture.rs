//! Copies of bodies, within a budget that all exchanges share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use plumbline_inference_protocol::grpc::FRAME_PREFIX;
use prometheus::IntGauge;

use crate::config::Hook;
use crate::skip::SkipReason;

/// What is kept of a body that nobody will read whole: enough to read the model's name out of a gRPC message.
const KEPT_PREFIX: usize = 512;

/// What a capture costs besides its bytes; with it the budget also bounds the number of captures.
const FIXED_COST: usize = 512;

/// What captures share: their bounds.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// Bytes of one body.
    limit: usize,
    /// Bytes of all bodies that are kept: of exchanges in flight, in the queue, and with the observer.
    budget: usize,
    used: AtomicUsize,
    shown: IntGauge,
    /// See [`crate::Config::while_forwarding`].
    hook: Option<Hook>,
}

impl Keeping {
    pub(crate) fn new(limit: usize, budget: usize, shown: IntGauge, hook: Option<Hook>) -> Self {
        Self {
            limit,
            budget,
            used: AtomicUsize::new(0),
            shown,
            hook,
        }
    }

    /// Does what a test wants done.
    pub(crate) fn hook(&self) {
        if let Some(hook) = &self.hook {
            hook.call();
        }
    }

    /// Brings the gauge up to date.
    pub(crate) fn show(&self) {
        self.shown.set(self.used.load(Ordering::Relaxed) as i64);
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.budget;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A copy of one body: whole, or its beginning and the reason for that.
///
/// Frames are copied out of the connection's read buffer. A refcounted slice would pin the whole of it, many times the
/// slice perhaps, and keep the connection from using it again.
#[derive(Debug)]
pub(crate) struct Capture {
    bytes: BytesMut,
    lost: Option<SkipReason>,
    messages: Messages,
    /// What has been taken from the budget.
    taken: usize,
    keeping: Arc<Keeping>,
}

impl Capture {
    /// Nothing yet.
    pub(crate) fn new(keeping: Arc<Keeping>) -> Self {
        let fits = keeping.take(FIXED_COST);
        Self {
            bytes: BytesMut::new(),
            lost: (!fits).then_some(SkipReason::OverBudget),
            messages: Messages::default(),
            taken: if fits { FIXED_COST } else { 0 },
            keeping,
        }
    }

    /// Will keep no more than a beginning, because of `reason`.
    pub(crate) fn of_beginning(keeping: Arc<Keeping>, reason: SkipReason) -> Self {
        Self {
            bytes: BytesMut::new(),
            lost: Some(reason),
            messages: Messages::default(),
            taken: 0,
            keeping,
        }
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: &Bytes) {
        self.keeping.hook();
        if self.lost.is_none() {
            if self.bytes.len() + frame.len() > self.keeping.limit {
                self.lose(SkipReason::TooLarge);
            } else if self.keeping.take(frame.len()) {
                self.taken += frame.len();
                self.bytes.extend_from_slice(frame);
                return;
            } else {
                self.lose(SkipReason::OverBudget);
            }
        }
        let room = KEPT_PREFIX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&frame[..frame.len().min(room)]);
    }

    /// Frees what is kept but for the beginning, and keeps no more.
    pub(crate) fn lose(&mut self, reason: SkipReason) {
        self.lost.get_or_insert(reason);
        self.bytes = BytesMut::from(self.beginning());
        self.keeping.give_back(std::mem::take(&mut self.taken));
    }

    /// Why not all of the body is here.
    pub(crate) fn lost(&self) -> Option<SkipReason> {
        self.lost
    }

    /// The body's first bytes: all that are kept, up to a number that holds a model's name.
    pub(crate) fn beginning(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(KEPT_PREFIX)]
    }

    /// A copy of the body, if it is whole.
    pub(crate) fn copy(&self) -> Option<Bytes> {
        self.lost.is_none().then(|| Bytes::copy_from_slice(&self.bytes))
    }

    /// How many gRPC messages are here, when all of them are whole and nothing is lost.
    pub(crate) fn whole_messages(&mut self) -> Option<usize> {
        let Messages { count, end } = &mut self.messages;
        while let Some(([_, len @ ..], rest)) = self.bytes[*end..].split_first_chunk::<FRAME_PREFIX>() {
            let len = u32::from_be_bytes(*len) as usize;
            if rest.len() < len {
                return None;
            }
            *end += FRAME_PREFIX + len;
            *count += 1;
        }
        (self.lost.is_none() && *end == self.bytes.len()).then_some(*count)
    }

    /// Moves what is here into a capture of its own.
    pub(crate) fn split(&mut self) -> Self {
        let rest = Self::new(Arc::clone(&self.keeping));
        std::mem::replace(self, rest)
    }

    /// The body in one piece; what the budget gave is held until the capture is dropped.
    pub(crate) fn take_bytes(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

/// The whole gRPC messages at the beginning of a body.
#[derive(Clone, Copy, Debug, Default)]
struct Messages {
    count: usize,
    /// Where the last of them ends.
    end: usize,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.keeping.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(limit: usize, budget: usize) -> Arc<Keeping> {
        let gauge = IntGauge::new("bytes", "for the test").expect("a valid gauge");
        Arc::new(Keeping::new(limit, budget, gauge, None))
    }

    fn used(keeping: &Keeping) -> usize {
        keeping.show();
        usize::try_from(keeping.shown.get()).expect("never below 0")
    }

    fn bytes(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn a_body_in_pieces_becomes_one() {
        let mut capture = Capture::new(keeping(8, 10_000));
        capture.push(&Bytes::from_static(b"abc"));
        capture.push(&Bytes::from_static(b""));
        capture.push(&Bytes::from_static(b"defgh"));
        assert_eq!(capture.lost(), None);
        assert_eq!(capture.beginning(), b"abcdefgh");
        assert_eq!(capture.take_bytes(), "abcdefgh");
    }

    #[test]
    fn a_body_over_the_limit_keeps_only_its_beginning_and_gives_its_room_back() {
        let keeping = keeping(2_000, 10_000);
        let mut capture = Capture::new(Arc::clone(&keeping));
        capture.push(&bytes(1_500));
        assert_eq!(used(&keeping), FIXED_COST + 1_500);
        capture.push(&bytes(1_500));
        capture.push(&bytes(10));
        assert_eq!(capture.lost(), Some(SkipReason::TooLarge));
        assert_eq!(capture.beginning(), [7; KEPT_PREFIX]);
        assert_eq!(used(&keeping), 0);
        let mut at_once = Capture::new(self::keeping(10, 10_000));
        at_once.push(&Bytes::from_static(b"longer than ten"));
        assert_eq!(at_once.beginning(), b"longer than ten");
    }

    #[test]
    fn all_bodies_together_stay_within_the_budget() {
        let keeping = keeping(2_000, 4_000);
        let mut captures: Vec<Capture> = (0..20).map(|_| Capture::new(Arc::clone(&keeping))).collect();
        let started = captures.iter().filter(|capture| capture.lost().is_none()).count();
        assert_eq!(started, 4_000 / FIXED_COST);
        captures.truncate(2);
        captures[0].push(&bytes(2_000));
        captures[1].push(&bytes(2_000));
        assert_eq!(captures[0].lost(), None);
        assert_eq!(captures[1].lost(), Some(SkipReason::OverBudget));
        // Bytes that the observer holds still count.
        let held = captures[0].take_bytes();
        assert_eq!(used(&keeping), FIXED_COST + held.len());
        captures.clear();
        assert_eq!(used(&keeping), 0);
    }

    #[test]
    fn whole_messages_are_counted_however_they_come() {
        let keeping = keeping(2_000, 10_000);
        let mut capture = Capture::new(Arc::clone(&keeping));
        assert_eq!(capture.whole_messages(), Some(0));
        let two = b"\0\0\0\0\x03abc\0\0\0\0\0";
        for (at, byte) in two.iter().enumerate() {
            capture.push(&Bytes::copy_from_slice(&[*byte]));
            let expected = match at {
                7 => Some(1),
                12 => Some(2),
                _ => None,
            };
            assert_eq!(capture.whole_messages(), expected, "after byte {at}");
        }
        let mut split = capture.split();
        assert_eq!(split.take_bytes(), &two[..]);
        assert_eq!(capture.whole_messages(), Some(0));
        drop(split);
        assert_eq!(used(&keeping), FIXED_COST);
        capture.push(&bytes(2_001));
        assert_eq!(capture.whole_messages(), None, "what is lost is not whole");
    }

    #[test]
    fn a_capture_of_the_beginning_takes_nothing_from_the_budget() {
        let keeping = keeping(2_000, 4_000);
        let mut capture = Capture::of_beginning(Arc::clone(&keeping), SkipReason::Off);
        capture.push(&bytes(300));
        capture.push(&bytes(300));
        assert_eq!((capture.beginning().len(), used(&keeping)), (KEPT_PREFIX, 0));
        assert_eq!(capture.lost(), Some(SkipReason::Off));
    }
}
