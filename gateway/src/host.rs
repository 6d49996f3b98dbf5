//! Host names of requests and of routes.

use http::Request;
use http::header::HOST;

/// The longest name that DNS has.
const MAX_BYTES: usize = 253;

/// A host name in the one form in which names are compared: lower case, without a port and a final dot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Host {
    /// The host that a request is for: `:authority` or an absolute target, otherwise `host`. The two agree
    /// (`layers::check_head`).
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        match request.uri().authority() {
            Some(authority) => Self::parse(authority.as_str()),
            None => Self::parse(request.headers().get(HOST)?.to_str().ok()?),
        }
    }

    pub(crate) fn parse(authority: &str) -> Option<Self> {
        let host = match authority.strip_prefix('[') {
            Some(address) => &authority[..address.find(']')? + 2],
            None => authority.split_once(':').map_or(authority, |(host, _port)| host),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.len() > MAX_BYTES {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes[..host.len()].copy_from_slice(host.as_bytes());
        bytes[..host.len()].make_ascii_lowercase();
        let length = host.len();
        Some(Self { bytes, length })
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("cut from a text at its ASCII characters")
    }
}

/// The host name of a route, if it is one: labels of letters, digits, `-` and `_`, without a port.
pub(crate) fn normal(text: &str) -> Option<String> {
    let label = |label: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(valid)
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let valid = name.len() <= MAX_BYTES && name.split('.').all(label);
    valid.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(authority: &str) -> Option<String> {
        Host::parse(authority).map(|host| host.as_str().to_owned())
    }

    #[test]
    fn case_port_and_final_dot_do_not_matter() {
        for text in [
            "churn.example.com",
            "Churn.EXAMPLE.com:8080",
            "churn.example.com.",
            "churn.example.com.:80",
        ] {
            assert_eq!(host(text).as_deref(), Some("churn.example.com"), "{text}");
        }
        assert_eq!(host("[::1]:8080").as_deref(), Some("[::1]"));
        for bad in ["", ":80", ".", "[::1", &"a".repeat(254)] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_or_an_authority_names_the_host() {
        let of = |request: http::request::Builder| {
            Host::of(&request.body(()).expect("a request")).map(|host| host.as_str().to_owned())
        };
        assert_eq!(of(Request::get("/v2").header(HOST, "A:1")).as_deref(), Some("a"));
        assert_eq!(of(Request::get("http://B:1/v2")).as_deref(), Some("b"));
        assert_eq!(of(Request::get("/v2")), None);
    }

    #[test]
    fn a_route_has_a_name_without_a_port() {
        assert_eq!(
            normal("Churn-1.ns_a.example.com.").as_deref(),
            Some("churn-1.ns_a.example.com")
        );
        for bad in [
            "",
            "a:80",
            "a..b",
            "*.example.com",
            "a/b",
            "http://a",
            "ä",
            &"a".repeat(64),
        ] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }
}
