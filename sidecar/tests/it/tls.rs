//! TLS on both sides of the sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use plumbline_service::config::{Common, ParseSetting as _};
use plumbline_service::metrics::Metrics;
use plumbline_service::upstream::{Options, Protocol, Target, Upstream};
use plumbline_service::{
    ClientAuth, ClientTls, ClientTlsFiles, Listener, Part, Process, ServeOptions, Tls, TlsFiles,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::harness::{TestSidecar, soon};
use crate::model::{Rows, Wire, request};
use crate::observing::{answer_text, with_profile};

/// An authority's certificate, and one that it signed for `localhost`, in a folder.
fn signed(folder: &Path) -> [PathBuf; 3] {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&own, &issuer).expect("signed");
    let texts = [authority.pem(), certificate.pem(), own.serialize_pem()];
    let paths = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).expect("written");
    }
    paths
}

fn trusting([ca, cert, key]: [PathBuf; 3]) -> ClientTlsFiles {
    ClientTlsFiles {
        ca,
        identity: Some((cert, key)),
        settings: ["ca", "cert", "key"],
    }
}

fn serving([ca, cert, key]: [PathBuf; 3]) -> TlsFiles {
    TlsFiles {
        cert,
        key,
        named: Vec::new(),
        clients: Some((ca, ClientAuth::Required)),
    }
}

/// Predicts under TLS for clients with a certificate.
fn model_server(files: TlsFiles, body: String) -> SocketAddr {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address();
    let tls = Tls::load(files, &Metrics::default()).expect("good files");
    let part = Part {
        name: "model-server",
        version: "0",
    };
    let process =
        Process::start(part, &Common::on_loopback(), serde_json::Value::Null).expect("an admin port");
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let body = Bytes::from(body.clone());
        async move {
            request.into_body().collect().await.expect("a body");
            Ok(Response::new(Full::new(body)))
        }
    });
    let listener = listener.with_tls(Some(tls));
    tokio::spawn(async move {
        listener
            .serve(service, ServeOptions::default(), process.shutdown())
            .await;
    });
    address
}

fn https(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}

#[tokio::test]
async fn both_sides_may_speak_tls_and_show_certificates() {
    let (client_side, server_side) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let (outer, inner) = (signed(client_side.path()), signed(server_side.path()));
    let rows = Rows::seeded(3).usual(2);
    let text = answer_text("churn", &rows);
    let server = model_server(serving(inner.clone()), text.clone());
    let sidecar = TestSidecar::start(&https(server), |config| {
        with_profile(config);
        config.tls = Some(serving(outer.clone()));
        config.upstream_tls = Some(trusting(inner.clone()));
    })
    .await;
    let target = Target::parse_setting(&https(sidecar.address)).expect("an endpoint");
    let client = |files| {
        let options = Options {
            tls: Some(ClientTls::load(files).expect("good files")),
            ..Options::default()
        };
        Upstream::<Full<Bytes>>::new(target.clone(), options)
    };
    let good = client(trusting(outer.clone()));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let response = soon(good.send(protocol, request(Wire::V2Json, &rows)))
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{protocol:?}");
        let body = soon(response.into_body().collect())
            .await
            .expect("a body")
            .to_bytes();
        assert_eq!(body, text);
    }
    sidecar.nothing_is_lost(2).await;
    sidecar
        .metric_is(r#"plumbline_rows_observed_total{model="churn",version="3"}"#, 4.0)
        .await;
    // Another authority: the client does not trust the sidecar, or the sidecar the client.
    let [_, inner_cert, inner_key] = inner.clone();
    let [outer_ca, ..] = outer;
    for stranger in [trusting(inner), trusting([outer_ca, inner_cert, inner_key])] {
        let refused = soon(client(stranger).send(Protocol::Http1, request(Wire::V2Json, &rows))).await;
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn a_model_server_that_is_not_who_it_should_be_is_not_spoken_to() {
    let (real, expected) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let server = model_server(serving(signed(real.path())), "{}".to_owned());
    let files = signed(expected.path());
    let sidecar = TestSidecar::start(&https(server), |config| {
        config.upstream_tls = Some(trusting(files));
    })
    .await;
    let answer = crate::harness::h1(sidecar.address, request(Wire::V2Json, &Rows::seeded(3).usual(1))).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.json(),
        serde_json::json!({"error": "cannot connect to the model server"})
    );
}
