use std::net::Ipv4Addr;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A TLS server that answers each connection's first request; its address and its certificate as PEM.
async fn tls_server() -> (SocketAddr, String) {
    let names = vec!["localhost".to_owned()];
    let issued = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a key that fits");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1_024];
            let _request = stream.read(&mut request).await;
            let _client_gone = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    });
    (address, issued.cert.pem())
}

fn transport(trust: Trust<'_>) -> anyhow::Result<Transport> {
    Ok(Transport {
        http: Http::One,
        tls: Some((tls_config(trust, b"http/1.1")?, "localhost".try_into()?)),
    })
}

#[tokio::test]
async fn a_certificate_is_believed_when_it_or_everybody_is_trusted() {
    let (address, pem) = tls_server().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let get = Request::get("/").expect("a request");
    let trusted = file("own.pem", &pem);
    for trust in [Trust::Roots(&trusted), Trust::Anybody] {
        let answer = once(address, &transport(trust).expect("a transport"), &get).await;
        assert_eq!(answer.expect("an answer"), (200, b"ok".to_vec()));
    }
    let (_, other) = tls_server().await;
    let other = file("other.pem", &other);
    let refused = once(
        address,
        &transport(Trust::Roots(&other)).expect("a transport"),
        &get,
    )
    .await;
    assert!(refused.is_err());
    assert!(transport(Trust::Roots(&file("empty.pem", ""))).is_err());
}
