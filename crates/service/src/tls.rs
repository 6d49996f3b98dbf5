//! TLS on a data port and to servers: certificates and authorities from files, replaced without a restart.

mod certificate;
mod client;
mod settings;
mod sni;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as RustlsError, RootCertStore, ServerConfig};

pub use self::client::{ClientTls, ClientTlsFiles};
pub use self::settings::TLS_SETTINGS;
use self::sni::ByServerName;
use crate::metrics::Metrics;
use crate::{Shutdown, error_chain};

/// Time between two looks at the files: kubelet and cert-manager take minutes to replace a mounted secret.
const POLL: Duration = Duration::from_secs(5);

/// The series of [`TlsMetrics`].
const EXPIRY: &str = "plumbline_tls_certificate_expiry_timestamp_seconds";

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No connection without one that the authority signed.
    Required,
    /// A client may show none; a wrong one is refused.
    Optional,
}

/// A certificate for some of a data port's server names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCertificate {
    /// The certificate, whose DNS names say which servers it is for, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where certificate and key are, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// Certificates for clients that name another server (SNI); the first that has the name is used.
    pub named: Vec<NamedCertificate>,
    /// Authorities of client certificates, and whether clients need one.
    pub clients: Option<(PathBuf, ClientAuth)>,
}

/// Why files do not make a server's identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file without the PEM block that it should have, or with a broken one.
    #[error("{}: expected {expected} as PEM", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// `a certificate` or `a private key`.
        expected: &'static str,
        /// Why.
        source: PemError,
    },
    /// A key of a kind that is not known here, or of another certificate.
    #[error("{}: expected the private key of the certificate in {}", .key.display(), .cert.display())]
    Key {
        /// The key's file.
        key: Box<Path>,
        /// The setting that names it.
        setting: &'static str,
        /// The certificate's file.
        cert: Box<Path>,
        /// Why.
        source: RustlsError,
    },
    /// Authorities that cannot be used.
    #[error("{}: expected certificates of authorities", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate for a server name that is for none.
    #[error("{}: expected a certificate with a DNS name", .path.display())]
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("TLS cannot be set up")]
    Setup(#[from] RustlsError),
}

impl TlsError {
    /// The setting whose file is wrong.
    pub fn setting(&self) -> &'static str {
        match self {
            TlsError::Key { setting, .. }
            | TlsError::Authorities { setting, .. }
            | TlsError::Read { setting, .. }
            | TlsError::Pem { setting, .. } => setting,
            TlsError::NoName { .. } => NAMED_SETTING,
            TlsError::Setup(_) => "tls_cert",
        }
    }
}

/// What the files held when they were last read.
struct Identity {
    config: Arc<ServerConfig>,
    /// Seconds since 1970.
    expiry: Option<i64>,
}

/// Bytes of the files, all read before any is used.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    /// Certificate and key of each of [`TlsFiles::named`].
    named: Vec<(Vec<u8>, Vec<u8>)>,
    ca: Option<Vec<u8>>,
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path, setting| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                setting,
                source,
            })
        };
        Ok(Contents {
            cert: read(&self.cert, "tls_cert")?,
            key: read(&self.key, "tls_key")?,
            named: self
                .named
                .iter()
                .map(|NamedCertificate { cert, key }| {
                    Ok((read(cert, NAMED_SETTING)?, read(key, NAMED_SETTING)?))
                })
                .collect::<Result<_, TlsError>>()?,
            ca: self
                .clients
                .as_ref()
                .map(|(ca, _)| read(ca, "tls_client_ca"))
                .transpose()?,
        })
    }

    /// Whether the files can be used now.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that is wrong.
    pub fn check(&self) -> Result<(), TlsError> {
        self.identity(&self.read()?).map(drop)
    }

    fn identity(&self, contents: &Contents) -> Result<Identity, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let files = (self.cert.as_path(), self.key.as_path());
        let default = certified(
            files,
            ["tls_cert", "tls_key"],
            (&contents.cert, &contents.key),
            &provider,
        )?;
        // The first of them to end is the one to look at.
        let mut expiry = certificate::not_after(&default.cert[0]);
        let mut certificates = ByServerName::new(default);
        for (NamedCertificate { cert, key }, (cert_pem, key_pem)) in self.named.iter().zip(&contents.named) {
            let certified = certified((cert, key), [NAMED_SETTING; 2], (cert_pem, key_pem), &provider)?;
            expiry = expiry.min(certificate::not_after(&certified.cert[0]));
            let names = certificate::names(&certified.cert[0]).dns;
            if names.is_empty() {
                return Err(TlsError::NoName { path: cert.clone() });
            }
            certificates.add(&names, certified);
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match (&self.clients, &contents.ca) {
            (Some((path, auth)), Some(pem)) => {
                let verifier = verifier(path, pem, *auth, provider)?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption without state: a client that comes back saves a signature, the costly part of a handshake.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Identity {
            config: Arc::new(config),
            expiry,
        })
    }
}

/// The setting of [`TlsFiles::named`].
const NAMED_SETTING: &str = "tls_certificate";

/// A chain, of at least one certificate, and its key.
fn certified(
    (cert, key): (&Path, &Path),
    [cert_setting, key_setting]: [&'static str; 2],
    (cert_pem, key_pem): (&[u8], &[u8]),
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert, cert_setting, cert_pem)?;
    let private = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| TlsError::Pem {
        path: key.to_owned(),
        setting: key_setting,
        expected: "a private key",
        source,
    })?;
    let wrong_key = |source| TlsError::Key {
        key: key.into(),
        setting: key_setting,
        cert: cert.into(),
        source,
    };
    let certified = CertifiedKey::from_der(chain, private, provider).map_err(wrong_key)?;
    certified.keys_match().map_err(wrong_key)?;
    Ok(certified)
}

fn certificates(
    path: &Path,
    setting: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem {
        path: path.to_owned(),
        setting,
        expected: "a certificate",
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    if chain.is_empty() {
        return Err(wrong(PemError::NoItemsFound));
    }
    Ok(chain)
}

fn verifier(
    path: &Path,
    pem: &[u8],
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |source| TlsError::Authorities {
        path: path.to_owned(),
        setting: "tls_client_ca",
        source,
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, "tls_client_ca", pem)? {
        roots.add(authority).map_err(|error| wrong(error.into()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| wrong(error.into()))
}

/// The name by which a client's certificate is known: its first URI (SPIFFE), else its first DNS name, else the common
/// name of its subject; nothing for one that has none of them.
pub(crate) fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate::Names { uris, dns, common } = certificate::names(certificate);
    uris.into_iter().chain(dns).next().or(common)
}

/// What became of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// They are as they were.
    Unchanged,
    /// New connections get the new certificate.
    Replaced,
    /// They cannot be used; new connections get the old certificate.
    Refused,
}

/// The contents seen last, good or bad, so that each is tried and told once.
struct Seen(Mutex<u64>);

impl Seen {
    fn new(contents: &Contents) -> Seen {
        Seen(Mutex::new(contents.fingerprint()))
    }

    /// Whether these are others; they are the last seen from here on.
    fn is_new(&self, contents: &Result<Contents, TlsError>) -> bool {
        let fingerprint = contents.as_ref().map_or(0, Contents::fingerprint);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, fingerprint) != fingerprint
    }
}

/// Looks at files every few seconds, and at once on SIGHUP, until listeners close.
async fn look_until_shutdown(shutdown: Shutdown, look: impl Fn() -> Reload + Clone + Send + 'static) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        // A signal that cannot be waited for never comes.
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = asked => {}
            () = shutdown.stop_accepting() => return,
        }
        // A panic would be a mistake of ours; what was loaded before is still used.
        let _looked = tokio::task::spawn_blocking(look.clone()).await;
    }
}

/// The identity of a data port. Cloned freely; every clone is the same.
#[derive(Clone)]
pub struct Tls(Arc<State>);

struct State {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    seen: Seen,
    expiry: IntGauge,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Tls {
    /// Reads the files and declares the certificate's expiry among `metrics`.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that is wrong.
    pub fn load(files: TlsFiles, metrics: &Metrics) -> Result<Tls, TlsError> {
        let contents = files.read()?;
        let identity = files.identity(&contents)?;
        let expiry = metrics.int_gauge(
            EXPIRY,
            "When the served certificate ends, in seconds since 1970; of several, the first to end.",
        );
        expiry.set(identity.expiry.unwrap_or_default());
        tracing::info!(
            certificate = %files.cert.display(),
            client_certificates = files.clients.as_ref().map(|(_, auth)| tracing::field::debug(auth)),
            expires = identity.expiry,
            "TLS"
        );
        Ok(Tls(Arc::new(State {
            seen: Seen::new(&contents),
            config: ArcSwap::new(identity.config),
            files,
            expiry,
        })))
    }

    /// Looks at the files now.
    pub fn reload(&self) -> Reload {
        let State {
            files,
            config,
            seen,
            expiry,
        } = &*self.0;
        let contents = files.read();
        if !seen.is_new(&contents) {
            return Reload::Unchanged;
        }
        match contents.and_then(|contents| files.identity(&contents)) {
            Ok(identity) => {
                config.store(identity.config);
                expiry.set(identity.expiry.unwrap_or_default());
                tracing::info!(expires = identity.expiry, "TLS certificate replaced");
                Reload::Replaced
            }
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "new TLS files not used; the old certificate is served"
                );
                Reload::Refused
            }
        }
    }

    /// Looks at the files every few seconds, and at once on SIGHUP, until listeners close.
    pub async fn watch(self, shutdown: Shutdown) {
        look_until_shutdown(shutdown, move || self.reload()).await;
    }

    /// For one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.config.load_full())
    }
}

impl Contents {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.cert, &self.key, &self.named, &self.ca).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;
