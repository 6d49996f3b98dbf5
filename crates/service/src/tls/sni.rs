//! Which certificate a client gets: the one of the server name that it asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::sync::Arc;

use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Certificates by the DNS names that they are for.
#[derive(Debug)]
pub(super) struct ByServerName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`; the star stands for one label (RFC 6125 §6.4.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ByServerName {
    /// `default` is for clients that name no server or one that no certificate is for.
    pub(super) fn new(default: CertifiedKey) -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: Arc::new(default),
        }
    }

    /// Adds a certificate; a name that an earlier one has stays with it.
    pub(super) fn add(&mut self, names: &[String], certified: CertifiedKey) {
        let certified = Arc::new(certified);
        for name in names {
            let name = name.to_ascii_lowercase();
            let (map, name) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcard, suffix.to_owned()),
                None => (&mut self.exact, name),
            };
            map.entry(name).or_insert_with(|| Arc::clone(&certified));
        }
    }

    /// `name` in lower case, as rustls gives it.
    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let wildcard = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wildcard)
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.of(hello.server_name())))
    }
}
