//! TLS to a server that this side connects to: whom to trust, and which certificate to show.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Contents, Reload, Seen, TlsError, certificates, look_until_shutdown};
use crate::{Shutdown, error_chain};

/// Where the files for connections to a server are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// Authorities of the server's certificate. Only these are trusted.
    pub ca: PathBuf,
    /// Certificate with its chain, and private key, to show to the server.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Names of the settings of authorities, certificate and key, for errors.
    pub settings: [&'static str; 3],
}

impl ClientTlsFiles {
    /// Whether the files can be used now.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that is wrong.
    pub fn check(&self) -> Result<(), TlsError> {
        self.configs(&self.read()?).map(drop)
    }

    fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path, setting| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                setting,
                source,
            })
        };
        let [ca, cert, key] = self.settings;
        let (cert, key) = match &self.identity {
            Some((cert_path, key_path)) => (read(cert_path, cert)?, read(key_path, key)?),
            None => (Vec::new(), Vec::new()),
        };
        Ok(Contents {
            cert,
            key,
            named: Vec::new(),
            ca: Some(read(&self.ca, ca)?),
        })
    }

    fn configs(&self, contents: &Contents) -> Result<Configs, TlsError> {
        let [ca_setting, cert_setting, key_setting] = self.settings;
        let mut roots = RootCertStore::empty();
        let pem = contents.ca.as_deref().unwrap_or_default();
        for authority in certificates(&self.ca, ca_setting, pem)? {
            roots.add(authority).map_err(|error| TlsError::Authorities {
                path: self.ca.clone(),
                setting: ca_setting,
                source: error.into(),
            })?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert, cert_setting, &contents.cert)?;
                let private =
                    PrivateKeyDer::from_pem_slice(&contents.key).map_err(|source| TlsError::Pem {
                        path: key.clone(),
                        setting: key_setting,
                        expected: "a private key",
                        source,
                    })?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|source| TlsError::Key {
                        key: key.as_path().into(),
                        setting: key_setting,
                        cert: cert.as_path().into(),
                        source,
                    })?
            }
        };
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Configs {
            http1: speaking(b"http/1.1"),
            http2: speaking(b"h2"),
        })
    }
}

/// TLS to servers, with files that may be replaced. Cloned freely; every clone is the same.
#[derive(Clone)]
pub struct ClientTls(Arc<State>);

struct State {
    files: ClientTlsFiles,
    configs: ArcSwap<Configs>,
    seen: Seen,
}

struct Configs {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientTls").field(&self.0.files).finish()
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]: the first file that is wrong.
    pub fn load(files: ClientTlsFiles) -> Result<Self, TlsError> {
        let contents = files.read()?;
        Ok(Self(Arc::new(State {
            configs: ArcSwap::from_pointee(files.configs(&contents)?),
            seen: Seen::new(&contents),
            files,
        })))
    }

    /// Looks at the files now. Connections that are open stay as they are.
    pub fn reload(&self) -> Reload {
        let contents = self.0.files.read();
        if !self.0.seen.is_new(&contents) {
            return Reload::Unchanged;
        }
        match contents.and_then(|contents| self.0.files.configs(&contents)) {
            Ok(configs) => {
                self.0.configs.store(Arc::new(configs));
                tracing::info!("TLS files for connections to the server replaced");
                Reload::Replaced
            }
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "new TLS files for connections to the server not used"
                );
                Reload::Refused
            }
        }
    }

    /// Looks at the files every few seconds, and at once on SIGHUP, until listeners close.
    pub async fn watch(self, shutdown: Shutdown) {
        look_until_shutdown(shutdown, move || self.reload()).await;
    }

    /// Speaks TLS on `stream`; the server has to prove to be `host`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        http2: bool,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let configs = self.0.configs.load_full();
        let config = if http2 { &configs.http2 } else { &configs.http1 };
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    }
}
