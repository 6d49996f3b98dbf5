//! Sending a request again: its head, and as much of its body as was given on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};

use crate::body::{ClientBody, RequestBody};
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
    pub(crate) body: Option<ClientBody>,
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http::Response;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use plumbline_service::metrics::Metrics as Registry;
    use tokio::io::{AsyncWriteExt as _, DuplexStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::{MirrorSpec, MirrorTo};
    use crate::endpoint::Endpoints;
    use crate::metrics::Metrics;
    use crate::mirror::{Mirror, MirrorState};

    /// A request as a client begins it, and the client.
    async fn begun(head: &str) -> (Request<Incoming>, DuplexStream) {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let (requests, mut received) = mpsc::unbounded_channel();
        let service = service_fn(move |request| {
            requests.send(request).expect("the test waits");
            // Its answer would end the request.
            std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
        client.write_all(head.as_bytes()).await.expect("read");
        (received.recv().await.expect("a request"), client)
    }

    #[tokio::test]
    async fn what_is_sent_again_is_whole_and_copied_once() {
        let (request, mut client) = begun("POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\n01234").await;
        let ledger = Arc::new(Ledger::new());
        let mut request = request.map(|body| RequestBody::new(body.into(), Family::V2, Arc::clone(&ledger)));
        let registry = Registry::default();
        let state = Arc::new(MirrorState::new(Metrics::declare(&registry).mirror("churn")));
        let spec = MirrorSpec::new(MirrorTo::Endpoints(Vec::new()));
        let mirror = Arc::new(Mirror::new(spec, Endpoints::default(), state));
        let head = || copy_of_head(&request);
        let (tee, _) = mirror
            .begin(Family::V2, Duration::from_secs(1), 10, head)
            .expect("its turn");
        request.body_mut().tee(tee);
        let replay = Replay::of(&mut request);
        let first = request.body_mut().frame().await.expect("a frame").expect("data");
        assert_eq!(first.into_data().expect("data"), "01234");
        drop(request);
        assert!(replay.beside(Family::V2, &ledger).is_none(), "not all was read");
        let again = replay.again(Family::V2, &ledger).expect("what was left");
        client.write_all(b"56789").await.expect("read");
        let body = again.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(body, "0123456789");
        let third = replay.again(Family::V2, &ledger).expect("all of it");
        assert_eq!(third.into_body().collect().await.expect("whole").to_bytes(), body);
        let text = String::from_utf8(registry.render()).expect("text");
        let incomplete = r#"plumbline_gateway_mirror_dropped_total{model="churn",reason="incomplete"} 0"#;
        assert!(text.contains(incomplete), "{text}");
    }
}
