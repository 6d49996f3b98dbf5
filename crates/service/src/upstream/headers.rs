//! Headers that belong to one connection.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a message says how long its body is in a way that can be passed on. Hyper frames by the last transfer coding and
/// leaves those before it undone; the next server, which is told of `chunked` only, would take such a body for what it is
/// not, or find another end of it (RFC 9112 §6.1).
pub fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a message says that its connection ends with it.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Removes what belongs to the connection a message came on (RFC 9110 §7.6.1): the fields that `connection` names and
/// the well-known ones. `te: trailers` stays, because gRPC needs it and trailers are forwarded; `trailer` stays for
/// the same reason.
///
/// A sender cannot use `connection` to remove fields that decide about framing, routing or identity.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none. A look at the few names that are there costs less than a search for each that might be.
    if !headers.keys().any(is_of_connection) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        strip_named(headers);
    }
    if headers.contains_key(TE) {
        let trailers = headers.get_all(TE).iter().any(accepts_trailers);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TE
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

fn strip_named(headers: &mut HeaderMap) {
    let values: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    headers.remove(CONNECTION);
    let names = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for name in names {
        let Ok(name) = HeaderName::try_from(name.trim()) else {
            continue;
        };
        let protected = [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TE].contains(&name)
            || name.as_str().starts_with("x-forwarded-")
            || name.as_str().starts_with("grpc-");
        if !protected {
            headers.remove(name);
        }
    }
}

fn accepts_trailers(value: &HeaderValue) -> bool {
    let codings = value.to_str().unwrap_or("").split(',');
    codings
        .map(|coding| coding.split(';').next().unwrap_or("").trim())
        .any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        left.sort();
        left
    }

    fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn fields_of_the_connection_go_and_the_rest_stays() {
        let left = stripped(&[
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic xyz"),
            ("accept", "*/*"),
            ("trailer", "grpc-status"),
        ]);
        assert_eq!(left, owned(&[("accept", "*/*"), ("trailer", "grpc-status")]));
    }

    #[test]
    fn each_field_of_the_connection_goes_alone_as_well() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(
                stripped(&[(name, "gzip"), ("accept", "*/*")]),
                owned(&[("accept", "*/*")])
            );
        }
    }

    #[test]
    fn te_is_reduced_to_trailers() {
        assert_eq!(
            stripped(&[("te", "gzip;q=1, Trailers")]),
            owned(&[("te", "trailers")])
        );
        assert_eq!(stripped(&[("te", "gzip")]), owned(&[]));
    }

    #[test]
    fn connection_cannot_remove_what_decides_about_identity_or_framing() {
        let left = stripped(&[
            (
                "connection",
                "authorization, content-length, x-forwarded-for, grpc-timeout",
            ),
            ("authorization", "Bearer t"),
            ("content-length", "5"),
            ("x-forwarded-for", "10.0.0.1"),
            ("grpc-timeout", "1S"),
        ]);
        assert_eq!(left.len(), 4, "{left:?}");
    }
}
