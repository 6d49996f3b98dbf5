//! Client certificates as principals, and certificates by server name.

use std::sync::Arc;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use plumbline_service::{ClientAuth, NamedCertificate, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::access::{Files, predictor, with_key};
use crate::support::*;

/// An authority, and certificates of its as files.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate and its key, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (
            params.signed_by(&key, &self.issuer).expect("signed").pem(),
            key.serialize_pem(),
        )
    }

    fn put(&self, files: &Files, name: &str) -> NamedCertificate {
        let (cert, key) = (
            files.path(&format!("{name}.crt")),
            files.path(&format!("{name}.key")),
        );
        let (cert_pem, key_pem) = self.sign(name);
        std::fs::write(&cert, cert_pem).expect("written");
        std::fs::write(&key, key_pem).expect("written");
        NamedCertificate { cert, key }
    }

    fn client(&self, identity: Option<(String, String)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM"))
            .expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Arc::new(config).into()
    }
}

#[tokio::test]
async fn a_client_certificate_is_a_principal_and_names_have_certificates() {
    let (files, authority, predictor) = (Files::new(), Authority::new(), predictor().await);
    std::fs::write(files.path("ca.crt"), &authority.pem).expect("written");
    let NamedCertificate { cert, key } = authority.put(&files, "default.example");
    let tls = TlsFiles {
        cert,
        key,
        named: vec![authority.put(&files, "models.example")],
        clients: Some((files.path("ca.crt"), ClientAuth::Optional)),
    };
    let access = files.access("[[allow]]\nprincipals = [\"batch.example\", \"ann\"]\n");
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.access = access;
        config.tls = Some(tls);
    });
    let send = async |server: &'static str, identity: Option<&str>, request| {
        let client = authority.client(identity.map(|name| authority.sign(name)));
        let stream = TcpStream::connect(gateway.tls_address.expect("a TLS port"))
            .await
            .expect("connected");
        let name = ServerName::try_from(server).expect("a name");
        let stream = client
            .connect(name, stream)
            .await
            .expect("a handshake with a certificate of that name");
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let answer: Response<Incoming> = client.send_request(request).await.expect("an answer");
        answer.status()
    };
    assert_eq!(
        send("models.example", Some("batch.example"), infer("churn")).await,
        StatusCode::OK
    );
    assert_eq!(
        send("default.example", Some("other.example"), infer("churn")).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        send("models.example", None, infer("churn")).await,
        StatusCode::UNAUTHORIZED
    );
    let with_both = with_key(infer("churn"), "ann-key");
    assert_eq!(
        send("models.example", Some("other.example"), with_both).await,
        StatusCode::OK,
        "the key counts"
    );
    let with_bad = with_key(infer("churn"), "bad-key");
    assert_eq!(
        send("models.example", Some("batch.example"), with_bad).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        gateway.infer("churn").await.status(),
        StatusCode::UNAUTHORIZED,
        "the plain port knows no certificate"
    );
    let requests = predictor.received(2).await;
    assert_eq!(requests[0].header("x-forwarded-proto"), "https");
}
