//! The address of an endpoint.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::uri::{Authority, Uri};

use crate::config::ParseSetting;

/// Where an endpoint listens: `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`. Clones share one text.
#[derive(Clone, Debug)]
pub struct Target(Arc<Parts>);

/// There may be tens of thousands: the text, and how it is read.
#[derive(Debug)]
struct Parts {
    /// `HOST[:PORT]`, or the path of a socket.
    text: Box<str>,
    kind: Kind,
    /// 0 for a socket.
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Unix,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Place<'a> {
    Tcp { host: &'a str, port: u16 },
    Tls { host: &'a str, port: u16 },
    Unix(&'a Path),
}

const EXPECTED: &str = "expected an endpoint such as http://127.0.0.1:8081 or unix:/run/predictor.sock";

impl Target {
    /// What `host` or `:authority` say when the client says nothing.
    pub fn authority(&self) -> Authority {
        match self.0.kind {
            Kind::Unix => Authority::from_static("localhost"),
            Kind::Tcp | Kind::Tls => self.0.text.parse().expect("it was one when it was read"),
        }
    }

    /// Whether it is connected to under TLS, which [`super::Options::tls`] has to be there for.
    pub fn is_tls(&self) -> bool {
        self.0.kind == Kind::Tls
    }

    pub(super) fn place(&self) -> Place<'_> {
        let Parts { text, kind, port } = &*self.0;
        let (host, port) = (host(text), *port);
        match kind {
            Kind::Tcp => Place::Tcp { host, port },
            Kind::Tls => Place::Tls { host, port },
            Kind::Unix => Place::Unix(Path::new(&**text)),
        }
    }

    fn new(kind: Kind, text: &str, port: u16) -> Self {
        let text = text.into();
        Self(Arc::new(Parts { text, kind, port }))
    }
}

/// The host of an authority, an address of IPv6 without its brackets.
fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

impl ParseSetting for Target {
    fn parse_setting(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(EXPECTED.to_owned());
            }
            return Ok(Self::new(Kind::Unix, path, 0));
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
        let kind = if tls { Kind::Tls } else { Kind::Tcp };
        Ok(Self::new(kind, authority.as_str(), port))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.0.kind {
            Kind::Tcp => "http://",
            Kind::Tls => "https://",
            Kind::Unix => "unix:",
        };
        write!(f, "{scheme}{}", self.0.text)
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.place() == other.place()
    }
}

impl Eq for Target {}

impl std::hash::Hash for Target {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.place().hash(state);
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
                    host: "predictor",
                    port: 443,
                },
            ),
            (
                "unix:/run/predictor.sock",
                "unix:/run/predictor.sock",
                Place::Unix(Path::new("/run/predictor.sock")),
            ),
        ] {
            let target = Target::parse_setting(text).expect(text);
            assert_eq!((target.to_string().as_str(), target.place()), (shown, place));
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

    fn tcp(host: &str, port: u16) -> Place<'_> {
        Place::Tcp { host, port }
    }
}
