//! From the client to the model server and back, as it comes.

mod own;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use plumbline_service::TRACEPARENT;
use plumbline_service::traces::RequestSpan;
use plumbline_service::upstream::{is_framed_plainly, strip_hop_by_hop};

use crate::feedback;
use crate::observation::Observing;
use crate::tee::{RequestBody, ResponseBody};
use crate::upstream::{Answer, Upstream};

/// What every exchange needs.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) upstream: Upstream,
    pub(crate) observing: Arc<Observing>,
}

impl Forwarder {
    /// Answers one request with what the model server says, or says why it could not be asked.
    ///
    /// Dropping the future, as the server does when the client leaves, cancels the exchange with the model server.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let started = Instant::now();
        if request.method() == Method::CONNECT {
            return Ok(own::no_tunnel());
        }
        if !is_framed_plainly(request.headers()) {
            return Ok(own::unknown_transfer_coding());
        }
        if request.uri().path().starts_with(feedback::RESERVED) {
            // Boxed, so that its future does not make that of every request larger.
            let reply = Box::pin(feedback::answer(&self.observing, request)).await;
            return Ok(own::reply(reply));
        }
        let (mut head, body) = request.into_parts();
        let attempt = self.attempt(&mut head);
        let mut observation = self.observing.begin(&head, started);
        let grpc = own::is_grpc(&head.headers);
        let body = RequestBody::new(
            body,
            observation
                .as_ref()
                .and_then(|observation| observation.request_capture()),
        );
        if let Some(observation) = &mut observation {
            observation.request_body(body.tap());
        }
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        strip(request.headers_mut());

        match self.upstream.send(request).await {
            Ok(Answer { response, times }) => {
                let (mut head, body) = response.into_parts();
                strip_hop_by_hop(&mut head.headers);
                if let Some(attempt) = attempt {
                    head.extensions.insert(attempt);
                }
                if let Some(observation) = &mut observation {
                    observation.response_head(&head, times);
                }
                Ok(Response::from_parts(
                    head,
                    ResponseBody::forwarded(body, observation),
                ))
            }
            Err(failure) => {
                if let Some(RequestSpan(attempt)) = attempt {
                    attempt.fail(failure.word());
                }
                let (status, grpc_status) = self.upstream.classify(&failure);
                if let Some(observation) = observation {
                    observation.failed(status, grpc_status);
                }
                Ok(own::failure(&failure, status, grpc.then_some(grpc_status)))
            }
        }
    }

    /// The span of the exchange with the model server, which is told of it, if the request is recorded.
    fn attempt(&self, head: &mut Parts) -> Option<RequestSpan> {
        let RequestSpan(request) = head.extensions.get()?;
        let attempt = request.attempt();
        attempt.set("predictor.endpoint", self.upstream.target().to_string());
        head.headers.insert(TRACEPARENT, attempt.context().header_value());
        Some(RequestSpan(Arc::new(attempt)))
    }
}

/// Takes off what belongs to the client's connection. The framing of a body without a length is kept: for a GET, the
/// connection to the model server would leave such a body out.
fn strip(headers: &mut HeaderMap) {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    strip_hop_by_hop(headers);
    if chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
