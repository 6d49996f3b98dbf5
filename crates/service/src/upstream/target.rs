//! The address of an endpoint.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::HeaderValue;
use http::uri::{Authority, Uri};

use crate::config::ParseSetting;

/// Where an endpoint listens: `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`. Clones share one text.
#[derive(Clone, Debug)]
pub struct Target(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    place: Place,
    authority: Authority,
    host_header: HeaderValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
}

const EXPECTED: &str = "expected an endpoint such as http://127.0.0.1:8081 or unix:/run/predictor.sock";

impl Target {
    /// What `host` or `:authority` say when the client says nothing.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Whether it is connected to under TLS, which [`super::Options::tls`] has to be there for.
    pub fn is_tls(&self) -> bool {
        matches!(self.0.place, Place::Tls { .. })
    }

    pub(super) fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }

    pub(super) fn place(&self) -> &Place {
        &self.0.place
    }

    fn new(place: Place, authority: Authority) -> Self {
        let host_header =
            HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII text");
        Self(Arc::new(Parts {
            place,
            authority,
            host_header,
        }))
    }
}

impl ParseSetting for Target {
    fn parse_setting(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(EXPECTED.to_owned());
            }
            return Ok(Self::new(
                Place::Unix(path.into()),
                Authority::from_static("localhost"),
            ));
        }
        let uri: Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(EXPECTED.to_owned()),
        };
        let authority = uri.authority().ok_or(EXPECTED)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(EXPECTED.to_owned());
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("an endpoint has no path or query; {EXPECTED}"));
        }
        let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match after_host.strip_prefix(':') {
            None if tls => 443,
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(EXPECTED)?,
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let place = if tls {
            Place::Tls { host, port }
        } else {
            Place::Tcp { host, port }
        };
        Ok(Self::new(place, authority.clone()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.place {
            Place::Tcp { .. } => write!(f, "http://{}", self.0.authority),
            Place::Tls { .. } => write!(f, "https://{}", self.0.authority),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.0.place == other.0.place
    }
}

impl Eq for Target {}

impl std::hash::Hash for Target {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.place.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_without_a_path_or_unix_sockets() {
        for (text, shown, place) in [
            (
                "http://127.0.0.1:8081",
                "http://127.0.0.1:8081",
                tcp("127.0.0.1", 8081),
            ),
            ("http://predictor/", "http://predictor", tcp("predictor", 80)),
            ("http://[::1]:81", "http://[::1]:81", tcp("::1", 81)),
            (
                "https://predictor",
                "https://predictor",
                Place::Tls {
                    host: "predictor".to_owned(),
                    port: 443,
                },
            ),
            (
                "unix:/run/predictor.sock",
                "unix:/run/predictor.sock",
                Place::Unix("/run/predictor.sock".into()),
            ),
        ] {
            let target = Target::parse_setting(text).expect(text);
            assert_eq!((target.to_string().as_str(), target.place()), (shown, &place));
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for bad in [
            "",
            "predictor:8081",
            "http://",
            "http://:8081",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "http://user@a",
            "http://a/v2",
            "http://a?x",
            "ftp://a",
            "unix:",
        ] {
            let error = Target::parse_setting(bad).expect_err(bad);
            assert!(error.contains("http://127.0.0.1:8081"), "{bad}: {error}");
        }
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp {
            host: host.to_owned(),
            port,
        }
    }
}
