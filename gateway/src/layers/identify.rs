//! Who asks: request id, trace, the client's address.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, FORWARDED, HeaderMap, HeaderName, HeaderValue};
use http::{Response, Version};
use http_body::Body as _;
use pin_project_lite::pin_project;
use plumbline_service::traces::{Span, Tracer};
use plumbline_service::{REQUEST_ID, RequestId};
use tower::{Layer, Service, layer::layer_fn};

use crate::call::{Call, Family, Ledger};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Gives a request an id and a trace where it has none, returns the id to the client, and tells the endpoint the
/// client's address. What a client says about addresses is believed only where the configuration says so.
#[derive(Clone, Debug)]
pub(crate) struct Identify<S> {
    inner: S,
    trust_forwarded: bool,
    tracer: Tracer,
}

pub(crate) fn layer<S>(
    trust_forwarded: bool,
    tracer: Tracer,
) -> impl Layer<S, Service = Identify<S>> + Clone {
    layer_fn(move |inner| Identify {
        inner,
        trust_forwarded,
        tracer: tracer.clone(),
    })
}

impl<S, B> Service<Call> for Identify<S>
where
    S: Service<Call, Response = Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Identified<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let headers = call.request.headers_mut();
        let id = RequestId::ensure(headers);
        let span = self.tracer.begin(headers);
        if self.trust_forwarded
            && let Some(client) = last_hop(headers)
        {
            call.address = client;
        }
        if let Some(span) = span {
            record(span, &call, &id);
        }
        let headers = call.request.headers_mut();
        forwarded(headers, call.peer.clone(), self.trust_forwarded, call.tls);
        let is_chunked =
            call.request.version() < Version::HTTP_2 && call.request.body().size_hint().exact().is_none();
        Identified {
            chunked: is_chunked.then(|| Arc::clone(&call.ledger)),
            inner: self.inner.call(call),
            id: Some(id),
        }
    }
}

/// Keeps the span of a request that is recorded, with what is known of the request so far.
fn record(span: Span, call: &Call, id: &RequestId) {
    let request = &call.request;
    span.asks(
        call.family == Family::Grpc,
        request.method(),
        request.uri(),
        request.version(),
    );
    span.set("request.id", id.as_str().to_owned());
    span.set("client.address", call.address.to_string());
    span.set("url.scheme", if call.tls { "https" } else { "http" });
    let _set_once = call.ledger.span.set(Box::new(span));
}

/// The client of the proxy in front of this one: the last address that it wrote. Those before are hearsay.
fn last_hop(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

fn forwarded(headers: &mut HeaderMap, peer: HeaderValue, trusted: bool, tls: bool) {
    if !trusted {
        for name in [
            FORWARDED_FOR,
            FORWARDED_PROTO,
            FORWARDED_HOST,
            FORWARDED_PORT,
            FORWARDED,
        ] {
            headers.remove(name);
        }
    }
    let chain = if headers.contains_key(FORWARDED_FOR) {
        chain(headers, &peer).unwrap_or(peer)
    } else {
        peer
    };
    headers.insert(FORWARDED_FOR, chain);
    headers
        .entry(FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static(if tls { "https" } else { "http" }));
}

/// The addresses that earlier proxies wrote, and the last of those proxies.
fn chain(headers: &HeaderMap, peer: &HeaderValue) -> Option<HeaderValue> {
    let all = headers.get_all(FORWARDED_FOR).iter().chain([peer]);
    let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    HeaderValue::try_from(texts.join(", ")).ok()
}

pin_project! {
    /// Puts the request's id on its answer, and whether the connection ends with it.
    pub(crate) struct Identified<F> {
        #[pin]
        inner: F,
        id: Option<RequestId>,
        // Of a request whose body has an end that the parser has yet to find.
        chunked: Option<Arc<Ledger>>,
    }
}

impl<F, B, E> Future for Identified<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(id) = this.id.take() {
            response.headers_mut().insert(REQUEST_ID, id.header_value());
        }
        if this
            .chunked
            .as_ref()
            .is_some_and(|ledger| ledger.whole_since().is_none())
        {
            // Where the rest of such a body ends is nothing to find the next request by.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_client_cannot_choose_its_address() {
        let mut spoofed = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "admin"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        forwarded(&mut spoofed, HeaderValue::from_static("192.0.2.7"), false, false);
        assert_eq!(spoofed["x-forwarded-for"], "192.0.2.7");
        assert_eq!(spoofed["x-forwarded-proto"], "http");
        assert_eq!(spoofed.len(), 2);
    }

    #[test]
    fn a_client_is_told_of_by_the_last_proxy() {
        let chain = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2, 2001:db8::1"),
        ]);
        assert_eq!(last_hop(&chain), "2001:db8::1".parse().ok());
        assert_eq!(last_hop(&headers(&[("x-forwarded-for", "unknown")])), None);
        assert_eq!(last_hop(&headers(&[])), None);
    }

    #[test]
    fn a_trusted_proxy_is_added_to() {
        let mut chain = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
        ]);
        forwarded(&mut chain, HeaderValue::from_static("192.0.2.7"), true, false);
        assert_eq!(chain["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 192.0.2.7");
        assert_eq!(chain["x-forwarded-proto"], "https");
    }
}
