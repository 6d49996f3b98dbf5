//! Refuses heads that are too large, that two readers could read in two ways, or that cannot be kept.

use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HOST, HeaderMap, HeaderName};
use http::{Response, Uri, Version};
use plumbline_inference_protocol::grpc;
use plumbline_service::upstream::is_framed_plainly;
use plumbline_service::{REQUEST_TIMEOUT, parse_request_timeout};
use tower::{Layer, Service, layer::layer_fn};

use crate::call::{Call, Family};
use crate::config::HeadLimits;
use crate::error::GatewayError;
use crate::layers::Decided;

/// A deadline further away than this is none.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Checks what hyper leaves to its user, and reads the client's deadline.
#[derive(Clone, Debug)]
pub(crate) struct CheckHead<S> {
    inner: S,
    limits: HeadLimits,
}

pub(crate) fn layer<S>(limits: HeadLimits) -> impl Layer<S, Service = CheckHead<S>> + Clone {
    layer_fn(move |inner| CheckHead { inner, limits })
}

impl<S, B> Service<Call> for CheckHead<S>
where
    S: Service<Call, Response = Response<B>, Error = GatewayError>,
{
    type Response = S::Response;
    type Error = GatewayError;
    type Future = Decided<Result<S::Response, GatewayError>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let request = &call.request;
        let checked = check(self.limits, request.uri(), request.version(), request.headers())
            .and_then(|()| client_timeout(request.headers(), call.family));
        match checked {
            Ok(timeout) => {
                call.client_timeout = timeout;
                Decided::Inner {
                    future: self.inner.call(call),
                }
            }
            Err(error) => Decided::now(Err(error)),
        }
    }
}

fn check(limits: HeadLimits, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), GatewayError> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target {
        let limit = limits.target;
        return Err(GatewayError::TargetTooLong { limit });
    }
    // The parser lets bytes beyond ASCII through, which no target has (RFC 3986 §2) and not every server takes.
    if !uri
        .path_and_query()
        .is_none_or(|target| target.as_str().is_ascii())
    {
        return Err(GatewayError::Malformed {
            reason: "the target is not ASCII",
        });
    }
    // HTTP/1.1 heads with more are refused by hyper, which has no place for them.
    if headers.len() > limits.headers {
        let limit = limits.headers;
        return Err(GatewayError::TooManyHeaders { limit });
    }
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if size > limits.header_bytes {
        let limit = limits.header_bytes;
        return Err(GatewayError::HeadTooLarge { limit });
    }
    if !is_framed_plainly(headers) {
        return Err(GatewayError::TransferCoding);
    }
    check_host(uri, version, headers)
}

/// RFC 9112 §3.2: exactly one `host` in HTTP/1.1, and no disagreement with an absolute target or `:authority`.
fn check_host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), GatewayError> {
    let malformed = |reason| Err(GatewayError::Malformed { reason });
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("more than one host");
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return malformed("the host is none");
    }
    if !uri
        .scheme_str()
        .is_none_or(|scheme| matches!(scheme, "http" | "https"))
    {
        return malformed("a scheme other than http and https");
    }
    let authority = uri.authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@'))
        || host.is_some_and(|host| host.as_bytes().contains(&b'@'))
    {
        return malformed("a host with user information");
    }
    match (host, authority) {
        (None, _) if version == Version::HTTP_11 => malformed("no host"),
        (None, None) if version > Version::HTTP_11 => malformed("no host"),
        (Some(host), Some(authority))
            if !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            malformed("two different hosts")
        }
        _ => Ok(()),
    }
}

/// Whether these are characters of `uri-host [ ":" port ]` (RFC 9110 §7.2), or of user information before it, which is
/// told of by name.
fn is_host(bytes: &[u8]) -> bool {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]@".contains(byte);
    !bytes.is_empty() && bytes.iter().all(valid)
}

/// The time that the client gives, measured from the request's arrival: `grpc-timeout`, or `x-request-timeout` as
/// `250ms`, `1.5s` or a plain number of seconds.
fn client_timeout(headers: &HeaderMap, family: Family) -> Result<Option<Duration>, GatewayError> {
    let (timeout, reason) = match family {
        Family::Grpc => {
            let Some(value) = headers.get(GRPC_TIMEOUT) else {
                return Ok(None);
            };
            (
                grpc::parse_timeout(value.as_bytes()),
                "grpc-timeout is not a time such as 250m",
            )
        }
        Family::V1 | Family::V2 | Family::Other => {
            let Some(value) = headers.get(REQUEST_TIMEOUT) else {
                return Ok(None);
            };
            (
                parse_request_timeout(value),
                "x-request-timeout is not a time such as 250ms",
            )
        }
    };
    match timeout {
        Some(timeout) if timeout > MAX_TIMEOUT => Ok(None),
        Some(timeout) => Ok(Some(timeout)),
        None => Err(GatewayError::Malformed { reason }),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::error::status;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn refused(target: &str, version: Version, fields: &[(&'static str, &'static str)]) -> Option<u16> {
        let uri: Uri = target.parse().expect("a target");
        let checked = check(HeadLimits::default(), &uri, version, &headers(fields));
        checked.err().map(|error| status(&error).http.as_u16())
    }

    #[test]
    fn hosts_agree_or_the_request_is_refused() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(refused("/v2", one, &[("host", "a")]), None);
        assert_eq!(refused("http://a/v2", one, &[("host", "A")]), None);
        assert_eq!(refused("http://a/v2", two, &[]), None);
        assert_eq!(refused("HTTPS://a/v2", one, &[("host", "a")]), None);
        assert_eq!(refused("ftp://a/v2", one, &[("host", "a")]), Some(400));
        assert_eq!(refused("/v2", Version::HTTP_10, &[]), None);
        assert_eq!(refused("/v2", one, &[]), Some(400));
        assert_eq!(refused("http://a/v2", one, &[]), Some(400));
        assert_eq!(refused("/v2", one, &[("host", "a"), ("host", "a")]), Some(400));
        assert_eq!(refused("http://a/v2", one, &[("host", "b")]), Some(400));
        assert_eq!(refused("http://a/v2", two, &[("host", "b")]), Some(400));
        assert_eq!(refused("http://user@a/v2", two, &[]), Some(400));
        assert_eq!(refused("/v2", one, &[("host", "user@a")]), Some(400));
        for host in ["", "a b", "a/", "a?", "a\\", "a\tb"] {
            assert_eq!(refused("/v2", one, &[("host", host)]), Some(400), "{host}");
        }
        for host in ["a:80", "[::1]:80", "a_b.example"] {
            assert_eq!(refused("/v2", one, &[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn targets_are_ascii() {
        assert_eq!(
            refused("/v2/\u{e9}", Version::HTTP_11, &[("host", "a")]),
            Some(400)
        );
        assert_eq!(refused("/v2/%c3%a9", Version::HTTP_11, &[("host", "a")]), None);
    }

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        let coding = |value| {
            refused(
                "/v2",
                Version::HTTP_11,
                &[("host", "a"), ("transfer-encoding", value)],
            )
        };
        assert_eq!(coding("chunked"), None);
        assert_eq!(coding("Chunked"), None);
        for bad in [
            "gzip, chunked",
            "chunked, chunked",
            "xchunked",
            "chunked;q=0",
            ", chunked",
            "identity",
        ] {
            assert_eq!(coding(bad), Some(501), "{bad}");
        }
        let twice = [
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(refused("/v2", Version::HTTP_11, &twice), Some(501));
    }

    #[test]
    fn large_heads_are_named() {
        let long = format!("/v2/{}", "x".repeat(HeadLimits::default().target));
        assert_eq!(refused(&long, Version::HTTP_11, &[("host", "a")]), Some(414));
        let large: &'static str = Box::leak("x".repeat(HeadLimits::default().header_bytes).into_boxed_str());
        assert_eq!(
            refused("/v2", Version::HTTP_11, &[("host", "a"), ("x", large)]),
            Some(431)
        );
        let mut many = vec![("x", "y"); HeadLimits::default().headers - 1];
        many.push(("host", "a"));
        assert_eq!(refused("/v2", Version::HTTP_11, &many), None);
        many.push(("x", "z"));
        assert_eq!(refused("/v2", Version::HTTP_11, &many), Some(431));
    }

    #[test]
    fn timeouts_are_times_or_the_request_is_refused() {
        let rest = |value| client_timeout(&headers(&[("x-request-timeout", value)]), Family::V2).ok();
        assert_eq!(rest("250ms"), Some(Some(Duration::from_millis(250))));
        assert_eq!(rest("1.5"), Some(Some(Duration::from_millis(1_500))));
        assert_eq!(rest("2"), Some(Some(Duration::from_secs(2))));
        assert_eq!(rest("400d"), Some(None));
        for bad in ["", "soon", "-1s", "1.2.3", "5 parsecs"] {
            assert_eq!(rest(bad), None, "{bad}");
        }
        let grpc = |value| client_timeout(&headers(&[("grpc-timeout", value)]), Family::Grpc).ok();
        assert_eq!(grpc("250m"), Some(Some(Duration::from_millis(250))));
        assert_eq!(grpc("99999999H"), Some(None));
        for bad in ["999999999999S", "1", "S", "-1S"] {
            assert_eq!(grpc(bad), None, "{bad}");
        }
    }
}
