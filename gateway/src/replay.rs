//! Sending a request again: its head, and as much of its body as was given on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use hyper::body::Incoming;

use crate::body::RequestBody;
use crate::call::{Family, Ledger};
use crate::mirror::Tee;

/// The largest body that can be sent again. Source: linkerd's replay buffer.
const MAX_BYTES: usize = 64 << 10;

/// A request that can be sent again. Its body is recorded while it is sent, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Replay {
    head: Parts,
    tape: Arc<Mutex<Tape>>,
}

impl Replay {
    /// Begins to record.
    pub(crate) fn of(request: &mut Request<RequestBody>) -> Self {
        let head = copy_of_head(request);
        let tape = Arc::default();
        request.body_mut().record(&tape);
        Self { head, tape }
    }

    /// The request once more, after the last one that was made of it has ended.
    pub(crate) fn again(&self, family: Family, ledger: &Arc<Ledger>) -> Option<Request<RequestBody>> {
        let mut tape = lock(&self.tape);
        if tape.useless {
            return None;
        }
        let complete = tape.complete;
        let mut body = if complete {
            RequestBody::recorded(tape.data.clone(), tape.trailers.clone(), None, family, ledger)
        } else {
            // What was not sent any more is where the last request left it; the rest is recorded anew.
            let rest = tape.left.body.take()?;
            let data = std::mem::take(&mut tape.data);
            tape.bytes = 0;
            RequestBody::recorded(data, None, Some(rest), family, ledger)
        };
        let tee = tape.left.tee.take();
        drop(tape);
        if !complete {
            body.record(&self.tape);
        }
        if let Some(mut tee) = tee {
            tee.rewind();
            body.tee(tee);
        }
        Some(self.with(body))
    }

    /// The request once more while another one is under way: only when all of it was read.
    pub(crate) fn beside(&self, family: Family, ledger: &Arc<Ledger>) -> Option<Request<RequestBody>> {
        let complete = lock(&self.tape).complete;
        complete.then(|| self.again(family, ledger))?
    }

    fn with(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = self.head.version;
        request.headers_mut().clone_from(&self.head.headers);
        request
    }
}

/// The head of a request, once more.
pub(crate) fn copy_of_head<B>(request: &Request<B>) -> Parts {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    head.headers_mut().clone_from(request.headers());
    head.into_parts().0
}

/// What of a body was given on.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    data: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    /// All of the body is here.
    complete: bool,
    /// It is too long, or broke off.
    useless: bool,
    left: Left,
}

/// What a body that is gone has left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What nobody has read, if anything.
    pub(crate) body: Option<Incoming>,
    /// Who keeps a copy, which is not whole yet.
    pub(crate) tee: Option<Box<Tee>>,
}

/// A body's way to its tape, which may be gone.
#[derive(Debug)]
pub(crate) struct Recorder(Weak<Mutex<Tape>>);

impl Recorder {
    pub(crate) fn to(tape: &Arc<Mutex<Tape>>) -> Self {
        Self(Arc::downgrade(tape))
    }

    fn write(&self, change: impl FnOnce(&mut Tape)) {
        if let Some(tape) = self.0.upgrade() {
            let mut tape = lock(&tape);
            if !tape.useless {
                change(&mut tape);
            }
        }
    }

    pub(crate) fn data(&self, data: &Bytes) {
        self.write(|tape| {
            tape.bytes += data.len();
            if tape.bytes > MAX_BYTES {
                *tape = Tape {
                    useless: true,
                    ..Tape::default()
                };
            } else if !data.is_empty() {
                tape.data.push(data.clone());
            }
        });
    }

    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        self.write(|tape| tape.trailers = Some(trailers.clone()));
    }

    pub(crate) fn complete(&self) {
        self.write(|tape| tape.complete = true);
    }

    pub(crate) fn broken(&self) {
        self.write(|tape| tape.useless = true);
    }

    /// The last word of a body.
    pub(crate) fn leave(&self, left: Left) {
        self.write(|tape| {
            tape.complete |= left.body.is_none();
            tape.left = left;
        });
    }
}

/// Held to look at a few pieces, never across a wait.
fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
