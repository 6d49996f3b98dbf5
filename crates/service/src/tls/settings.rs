//! The settings of TLS, for every part that offers it.

use std::path::PathBuf;

use super::{ClientAuth, NamedCertificate, TlsFiles};
use crate::config::{ParseSetting, Reader, Setting};
use crate::error_chain;

/// The settings of [`TlsFiles::read_settings`].
pub const TLS_SETTINGS: &[Setting] = &[
    Setting::new(
        "tls_cert",
        "FILE",
        "Certificate of the data port with its chain (PEM): the port then speaks TLS only. Replaced files are used \
         without a restart.",
    ),
    Setting::new("tls_key", "FILE", "Private key of that certificate (PEM)."),
    Setting::new(
        "tls_client_ca",
        "FILE",
        "Authorities (PEM) that client certificates are checked against.",
    ),
    Setting::new(
        "tls_client_auth",
        "WHO",
        "required: a client needs such a certificate; optional: it may show none.",
    )
    .default("required"),
];

impl ParseSetting for ClientAuth {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(ClientAuth::Required),
            "optional" => Ok(ClientAuth::Optional),
            _ => Err("expected required or optional".to_owned()),
        }
    }
}

impl TlsFiles {
    /// Reads [`TLS_SETTINGS`] and tries the files, so that a wrong one stops the start; nothing when TLS is not asked
    /// for.
    pub fn read_settings(reader: &mut Reader) -> Option<TlsFiles> {
        Self::read_with_named(reader, Vec::new())
    }

    /// The same for a part that serves several names; its setting of `named` is `tls_certificate`.
    pub fn read_with_named(reader: &mut Reader, named: Vec<NamedCertificate>) -> Option<TlsFiles> {
        let cert: Option<PathBuf> = reader.optional("tls_cert");
        let key: Option<PathBuf> = reader.optional("tls_key");
        let client_ca: Option<PathBuf> = reader.optional("tls_client_ca");
        let auth: ClientAuth = reader.value("tls_client_auth");
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => {
                reader.check("tls_client_ca", client_ca.is_none(), "needs tls_cert and tls_key");
                if !named.is_empty() {
                    reader.reject(
                        "tls_certificate",
                        "needs tls_cert and tls_key, for clients that name no server",
                    );
                }
                return None;
            }
            (Some(_), None) => {
                reader.reject("tls_cert", "needs tls_key");
                return None;
            }
            (None, Some(_)) => {
                reader.reject("tls_key", "needs tls_cert");
                return None;
            }
        };
        let files = TlsFiles {
            cert,
            key,
            named,
            clients: client_ca.map(|ca| (ca, auth)),
        };
        if let Err(error) = files.check() {
            reader.reject(error.setting(), error_chain(&error));
        }
        Some(files)
    }
}
