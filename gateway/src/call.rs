//! One request on its way through the stack.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Version};
use hyper::body::{Body as _, Incoming};
use plumbline_inference_protocol::grpc;
use plumbline_service::Peer;
use plumbline_service::traces::Span;
use tokio::time::Instant;

use crate::access::{Principal, Verb};
use crate::access_log::Trail;
use crate::body::{ClientBody, RequestBody};
use crate::error::GatewayError;
use crate::grpc_web::{Form, GrpcWeb};
use crate::metrics::ModelMetrics;

/// Which kind of client sent a request: decides the form of errors, and a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V1,
    V2,
    Grpc,
    /// Neither; such requests are answered by the gateway itself.
    Other,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::V1, Self::V2, Self::Grpc, Self::Other];

    /// The value of the label `protocol`.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
            Self::Other => "other",
        }
    }

    /// gRPC-Web is [`Family::Other`] until it is translated.
    fn of<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE);
        let path = request.uri().path();
        let below = |version: &str| {
            path.strip_prefix(version)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes())) {
            Self::Grpc
        } else if below("/v2") {
            Self::V2
        } else if below("/v1") {
            Self::V1
        } else {
            Self::Other
        }
    }
}

/// Who is at the other end of a connection; what requests need of it is written once.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: IpAddr,
    text: HeaderValue,
    principal: Option<Arc<Principal>>,
    tls: bool,
}

impl From<Peer> for Client {
    fn from(peer: Peer) -> Self {
        // A client that comes over IPv4 to a socket of both families is still an IPv4 client.
        let address = peer.address.ip().to_canonical();
        let text = HeaderValue::try_from(address.to_string());
        let named = peer.certificate_name.and_then(|name| Principal::new(&name, []));
        Self {
            address,
            text: text.expect("an address is visible ASCII text"),
            principal: named.map(Arc::new),
            tls: peer.tls,
        }
    }
}

/// A request with what the layers know about it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request<RequestBody>,
    /// The client's address, as `x-forwarded-for` has it.
    pub(crate) peer: HeaderValue,
    /// The client's address: the connection's, or what a trusted proxy says.
    pub(crate) address: IpAddr,
    /// Whether the client's connection is under TLS.
    pub(crate) tls: bool,
    /// Who asks: by the connection's certificate, until a credential says otherwise.
    pub(crate) principal: Option<Arc<Principal>>,
    /// What it does with its model, for the policy.
    pub(crate) verb: Verb,
    pub(crate) family: Family,
    /// How its client writes and reads gRPC, if it is one of gRPC-Web.
    pub(crate) grpc_web: Option<GrpcWeb>,
    /// What the client asked for, measured from arrival.
    pub(crate) client_timeout: Option<Duration>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Call {
    pub(crate) fn new(mut request: Request<Incoming>, client: &Client) -> Self {
        let mut family = Family::of(&request);
        let grpc_web = match family {
            Family::Other => GrpcWeb::translate(request.headers_mut()),
            Family::V1 | Family::V2 | Family::Grpc => None,
        };
        if grpc_web.is_some() {
            family = Family::Grpc;
        }
        let ledger = Arc::new(Ledger::new());
        if request.body().is_end_stream() {
            ledger.body_ended();
        }
        ledger
            .takes_trailers
            .store(request.version() >= Version::HTTP_2, Ordering::Relaxed);
        let request = request.map(|body| {
            let body = match grpc_web.map(|web| web.request) {
                Some(Form::Text) => ClientBody::from_text(body),
                Some(Form::Binary) | None => body.into(),
            };
            RequestBody::new(body, family, Arc::clone(&ledger))
        });
        Self {
            request,
            peer: client.text.clone(),
            address: client.address,
            tls: client.tls,
            principal: client.principal.clone(),
            verb: Verb::Metadata,
            family,
            grpc_web,
            client_timeout: None,
            ledger,
        }
    }
}

/// What the inner layers tell the outer ones about a request while it is on its way.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) arrived: Instant,
    /// Whose request it is, once that is known.
    pub(crate) model: OnceLock<Arc<ModelMetrics>>,
    /// Nanoseconds spent waiting for the client and for the endpoint.
    waited: AtomicU64,
    /// What went wrong with the request's body.
    fault: AtomicU8,
    /// Bytes that its body, or one of its messages, may have.
    limit: AtomicU64,
    /// When it has to be answered, if ever.
    pub(crate) deadline: OnceLock<Instant>,
    /// Nanoseconds after its arrival when the last of its body was given on; 0 before.
    whole_after: AtomicU64,
    /// Whether its body may have trailers: over HTTP/2 only. In HTTP/1.1 the parser takes `LF` alone at the beginning of
    /// the trailers for a part of them, and a server in front of this one may take it for their end: what comes next would
    /// be a request there and nothing here.
    takes_trailers: AtomicBool,
    /// For its line in the access log, if there is such a log.
    pub(crate) trail: OnceLock<Box<Trail>>,
    /// If it is recorded.
    pub(crate) span: OnceLock<Box<Span>>,
}

const NO_FAULT: u8 = 0;
const TOO_LARGE: u8 = 1;
const INCOMPLETE: u8 = 2;
const TRAILERS: u8 = 3;
const NOT_BASE64: u8 = 4;

impl Ledger {
    /// Of a request that arrives now, without a limit yet.
    pub(crate) fn new() -> Self {
        Self {
            arrived: Instant::now(),
            model: OnceLock::new(),
            waited: AtomicU64::new(0),
            fault: AtomicU8::new(NO_FAULT),
            limit: AtomicU64::new(u64::MAX),
            deadline: OnceLock::new(),
            whole_after: AtomicU64::new(0),
            takes_trailers: AtomicBool::new(true),
            trail: OnceLock::new(),
            span: OnceLock::new(),
        }
    }

    pub(crate) fn add_wait(&self, wait: Duration) {
        let nanoseconds = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn body_too_large(&self) {
        self.fault.store(TOO_LARGE, Ordering::Relaxed);
    }

    pub(crate) fn body_incomplete(&self) {
        self.fault.store(INCOMPLETE, Ordering::Relaxed);
    }

    pub(crate) fn body_not_base64(&self) {
        self.fault.store(NOT_BASE64, Ordering::Relaxed);
    }

    /// The last of its body was given on: what is waited for from now on is the endpoint.
    pub(crate) fn body_ended(&self) {
        if self.whole_after.load(Ordering::Relaxed) == 0 {
            let nanoseconds = u64::try_from(self.arrived.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.whole_after.store(nanoseconds.max(1), Ordering::Relaxed);
        }
    }

    /// Since when nothing is waited for but the endpoint; nothing while the client still sends.
    pub(crate) fn whole_since(&self) -> Option<Instant> {
        match self.whole_after.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(self.arrived + Duration::from_nanos(nanoseconds)),
        }
    }

    /// Whether trailers may come now; from now on its body is at fault if not.
    pub(crate) fn admits_trailers(&self) -> bool {
        let admits = self.takes_trailers.load(Ordering::Relaxed);
        if !admits {
            self.fault.store(TRAILERS, Ordering::Relaxed);
        }
        admits
    }

    /// What went wrong with the request's body, if that is why forwarding failed.
    pub(crate) fn body_fault(&self) -> Option<GatewayError> {
        match self.fault.load(Ordering::Relaxed) {
            TOO_LARGE => Some(GatewayError::BodyTooLarge { limit: self.limit() }),
            INCOMPLETE => Some(GatewayError::BodyIncomplete),
            TRAILERS => Some(GatewayError::Malformed {
                reason: "a body with trailers over HTTP/1.1",
            }),
            NOT_BASE64 => Some(GatewayError::Malformed {
                reason: "the body is not base64, which application/grpc-web-text is",
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_its_address_and_certificate() {
        let client = |address: &str, name: Option<&str>| {
            Client::from(Peer {
                address: std::net::SocketAddr::new(address.parse().expect("an address"), 1),
                certificate_name: name.map(ToOwned::to_owned),
                tls: name.is_some(),
            })
        };
        let mapped = client("::ffff:192.0.2.7", Some("client.example"));
        assert_eq!(mapped.text, "192.0.2.7");
        assert_eq!(
            mapped.principal.as_deref(),
            Principal::new("client.example", []).as_ref()
        );
        let local = client("::1", None);
        assert_eq!((local.text.to_str().ok(), local.principal), (Some("::1"), None));
    }

    #[test]
    fn the_family_follows_the_content_type_then_the_path() {
        for (path, content_type, family) in [
            ("/v2/models/churn/infer", "application/json", Family::V2),
            ("/v1/models/churn:predict", "application/json", Family::V1),
            (
                "/inference.GRPCInferenceService/ModelInfer",
                "application/grpc",
                Family::Grpc,
            ),
            ("/v2", "", Family::V2),
            ("/v20/models", "", Family::Other),
            ("/", "", Family::Other),
        ] {
            let request = Request::get(path).header(CONTENT_TYPE, content_type).body(());
            assert_eq!(Family::of(&request.expect("a request")), family, "{path}");
        }
    }
}
