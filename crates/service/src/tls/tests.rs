use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::*;
use crate::config::{Outcome, load};
use crate::{Listener, Readiness, ServeOptions};

/// An authority and what it signs.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A signed certificate and its key, as PEM.
struct Signed {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, last_year: i32) -> Signed {
        self.sign_for(&["localhost"], last_year)
    }

    fn sign_for(&self, names: &[&str], last_year: i32) -> Signed {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Signed {
            cert: params.signed_by(&key, &self.issuer).expect("signed").pem(),
            key: key.serialize_pem(),
        }
    }
}

/// The files of a server, as a secret is mounted.
struct Mounted(TempDir);

impl Mounted {
    fn new(signed: &Signed, clients: Option<(&Authority, ClientAuth)>) -> (Mounted, TlsFiles) {
        let mounted = Mounted(tempfile::tempdir().expect("a temporary directory"));
        mounted.put(signed);
        let path = |name: &str| mounted.0.path().join(name);
        let files = TlsFiles {
            cert: path("tls.crt"),
            key: path("tls.key"),
            named: Vec::new(),
            clients: clients.map(|(authority, auth)| {
                std::fs::write(path("ca.crt"), authority.certificate.pem()).expect("written");
                (path("ca.crt"), auth)
            }),
        };
        (mounted, files)
    }

    fn put(&self, Signed { cert, key }: &Signed) {
        std::fs::write(self.0.path().join("tls.crt"), cert).expect("written");
        std::fs::write(self.0.path().join("tls.key"), key).expect("written");
    }
}

struct Server {
    address: SocketAddr,
    tls: Tls,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// Serves `done` under TLS.
fn serve(files: TlsFiles) -> Server {
    let metrics = Metrics::default();
    let tls = Tls::load(files, &metrics).expect("good files");
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address();
    let shutdown = Shutdown::new(Readiness::default(), Duration::ZERO, Duration::from_secs(5));
    let listener = listener.with_tls(Some(tls.clone()));
    let service = tower::service_fn(async |_request: Request<Incoming>| {
        Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
    });
    let until = shutdown.clone();
    tokio::spawn(async move { listener.serve(service, ServeOptions::default(), &until).await });
    Server {
        address,
        tls,
        metrics,
        shutdown,
    }
}

/// A client that trusts `authority`, speaks these protocols and may show a certificate.
fn client(authority: &Authority, alpn: &[&str], identity: Option<&Signed>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate.der().clone())
        .expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Signed { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

async fn connect(address: SocketAddr, client: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    client.connect(name, stream).await
}

/// One request on a connection of its own, by the protocol that was agreed on.
async fn get(address: SocketAddr, client: &TlsConnector) -> anyhow::Result<(Version, Bytes)> {
    let stream = connect(address, client).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let request = Request::get("https://localhost/v2")
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    let response = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    Ok((
        response.version(),
        response.into_body().collect().await?.to_bytes(),
    ))
}

fn expiry(metrics: &Metrics) -> i64 {
    let text = String::from_utf8(metrics.render()).expect("text");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(EXPIRY)?.strip_prefix(' '));
    line.expect("the series").parse().expect("a number")
}

#[tokio::test]
async fn http1_and_http2_are_agreed_on_over_one_port() {
    let authority = Authority::new();
    let (_mounted, files) = Mounted::new(&authority.sign(2050), None);
    let server = serve(files);
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let client = client(&authority, alpn, None);
        let answer = get(server.address, &client).await.expect("an answer");
        assert_eq!(answer, (version, Bytes::from_static(b"done")), "{alpn:?}");
    }
    assert_eq!(expiry(&server.metrics), 2_524_608_000);
    let stranger = client(&Authority::new(), &["h2"], None);
    assert!(
        get(server.address, &stranger).await.is_err(),
        "another authority's"
    );
    // A plain client is turned away, and nobody else notices.
    let mut plain = TcpStream::connect(server.address).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    assert!(
        get(server.address, &client(&authority, &["h2"], None))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn clients_are_checked_when_an_authority_is_given() {
    let (ours, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    for (auth, without) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
        let (_mounted, files) = Mounted::new(&ours.sign(2050), Some((&clients, auth)));
        let server = serve(files);
        for (identity, served) in [
            (None, without),
            (Some(clients.sign(2050)), true),
            (Some(others.sign(2050)), false),
        ] {
            let client = client(&ours, &["h2"], identity.as_ref());
            let answer = get(server.address, &client).await;
            assert_eq!(answer.is_ok(), served, "{auth:?}: {answer:?}");
        }
    }
}

/// The DNS names of the certificate that a client gets which asks for `name`; none for a handshake that fails.
async fn served_names(address: SocketAddr, authority: &Authority, name: &'static str) -> Option<Vec<String>> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let server = ServerName::try_from(name).expect("a name");
    let stream = client(authority, &["h2"], None)
        .connect(server, stream)
        .await
        .ok()?;
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    Some(certificate::names(&chain[0]).dns)
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_asked_for() {
    let authority = Authority::new();
    let default = authority.sign_for(&["localhost", "default.example"], 2050);
    let (mounted, mut files) = Mounted::new(&default, None);
    let put = |name: &str, signed: &Signed| {
        let path = |ending: &str| mounted.0.path().join(format!("{name}.{ending}"));
        std::fs::write(path("crt"), &signed.cert).expect("written");
        std::fs::write(path("key"), &signed.key).expect("written");
        NamedCertificate {
            cert: path("crt"),
            key: path("key"),
        }
    };
    files.named = vec![
        put("exact", &authority.sign_for(&["a.example"], 2040)),
        put("wild", &authority.sign_for(&["*.w.example", "b.example"], 2050)),
    ];
    let server = serve(files);
    for (asked, served) in [
        ("a.example", Some("a.example")),
        ("A.EXAMPLE", Some("a.example")),
        ("b.example", Some("*.w.example")),
        ("c.w.example", Some("*.w.example")),
        ("localhost", Some("localhost")),
        // A star is one label, and a client refuses the default certificate for a name that it does not have.
        ("d.c.w.example", None),
    ] {
        let names = served_names(server.address, &authority, asked).await;
        assert_eq!(names.as_ref().map(|names| &*names[0]), served, "{asked}");
    }
    assert_eq!(expiry(&server.metrics), 2_208_988_800, "of the first to end");
    put(
        "wild",
        &authority.sign_for(&["*.w.example", "new.c.example"], 2050),
    );
    assert_eq!(server.tls.reload(), Reload::Replaced);
    let names = served_names(server.address, &authority, "new.c.example").await;
    assert_eq!(names.expect("served")[1], "new.c.example");
    put("wild", &authority.sign_for(&[], 2050));
    assert_eq!(server.tls.reload(), Reload::Refused, "a certificate for no name");
    assert!(
        served_names(server.address, &authority, "new.c.example")
            .await
            .is_some()
    );
}

#[tokio::test]
async fn a_service_knows_whose_certificate_its_peer_has_shown() {
    let authority = Authority::new();
    let (_mounted, files) = Mounted::new(&authority.sign(2050), Some((&authority, ClientAuth::Optional)));
    let tls = Tls::load(files, &Metrics::default()).expect("good files");
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address();
    let listener = listener.with_tls(Some(tls));
    let shutdown = Shutdown::new(Readiness::default(), Duration::ZERO, Duration::from_secs(5));
    let service_for = |peer: crate::Peer| {
        assert!(peer.tls);
        tower::service_fn(move |_request: Request<Incoming>| {
            let name = peer
                .certificate_name
                .clone()
                .unwrap_or_else(|| "nobody".to_owned());
            async move { Ok(Response::new(Full::new(Bytes::from(name)))) }
        })
    };
    tokio::spawn(async move {
        listener
            .serve_with(service_for, ServeOptions::default(), &shutdown)
            .await;
    });
    let shown = authority.sign_for(&["client.example"], 2050);
    for (identity, name) in [(Some(&shown), "client.example"), (None, "nobody")] {
        let client = client(&authority, &["h2"], identity);
        assert_eq!(get(address, &client).await.expect("an answer").1, name);
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_under_load_and_nothing_is_lost() {
    let authority = Authority::new();
    let (mounted, files) = Mounted::new(&authority.sign(2031), None);
    let server = serve(files);
    let stop = tokio_util::sync::CancellationToken::new();
    let load: Vec<_> = ["h2", "http/1.1"]
        .map(|alpn| {
            let (client, stop, address) = (client(&authority, &[alpn], None), stop.clone(), server.address);
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.is_cancelled() {
                    get(address, &client).await.expect("no request is lost");
                    served += 1;
                }
                served
            })
        })
        .into();
    // A connection from before is not touched.
    let stream = connect(server.address, &client(&authority, &["h2"], None))
        .await
        .expect("connected");
    let (mut kept, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let mut certificates = Vec::new();
    for year in 2032..2042 {
        mounted.put(&authority.sign(year));
        assert_eq!(server.tls.reload(), Reload::Replaced);
        let fresh = client(&authority, &["h2"], None);
        let stream = connect(server.address, &fresh).await.expect("connected");
        certificates.push(stream.get_ref().1.peer_certificates().expect("a chain")[0].clone());
        let request = Request::get("https://localhost/")
            .body(Empty::new())
            .expect("a request");
        assert!(kept.send_request(request).await.is_ok());
    }
    stop.cancel();
    for client in load {
        assert!(client.await.expect("no request is lost") > 0);
    }
    certificates.dedup();
    assert_eq!(
        certificates.len(),
        10,
        "each new connection gets the certificate of its time"
    );
    server.shutdown.begin_now();
}

#[tokio::test]
async fn broken_files_leave_the_old_certificate_serving() {
    let authority = Authority::new();
    let first = authority.sign(2031);
    let (mounted, files) = Mounted::new(&first, None);
    let server = serve(files);
    assert_eq!(server.tls.reload(), Reload::Unchanged);
    let before = expiry(&server.metrics);
    let other_key = Signed {
        key: authority.sign(2040).key,
        ..authority.sign(2040)
    };
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let cut = Signed {
        cert: half(&first.cert),
        key: half(&first.key),
    };
    let empty = Signed {
        cert: String::new(),
        key: String::new(),
    };
    for broken in [other_key, cut, empty] {
        mounted.put(&broken);
        assert_eq!(server.tls.reload(), Reload::Refused);
        assert_eq!(server.tls.reload(), Reload::Unchanged, "told once");
        assert!(
            get(server.address, &client(&authority, &["h2"], None))
                .await
                .is_ok()
        );
        assert_eq!(expiry(&server.metrics), before);
    }
    std::fs::remove_file(mounted.0.path().join("tls.key")).expect("removed");
    assert_eq!(server.tls.reload(), Reload::Refused);
    mounted.put(&authority.sign(2040));
    assert_eq!(server.tls.reload(), Reload::Replaced);
    assert!(expiry(&server.metrics) > before);
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_every_few_seconds_until_the_end() {
    let authority = Authority::new();
    let (mounted, files) = Mounted::new(&authority.sign(2031), None);
    let server = serve(files);
    let watching = tokio::spawn(server.tls.clone().watch(server.shutdown.clone()));
    let before = expiry(&server.metrics);
    mounted.put(&authority.sign(2040));
    tokio::time::sleep(POLL * 3).await;
    assert!(expiry(&server.metrics) > before);
    server.shutdown.begin_now();
    watching.await.expect("it ends");
}

/// Whoever is never idle keeps the paused clock from moving: only the signal makes anybody look.
#[tokio::test(start_paused = true)]
async fn files_are_looked_at_on_sighup() {
    let authority = Authority::new();
    let (mounted, files) = Mounted::new(&authority.sign(2031), None);
    let server = serve(files);
    // From here on the signal does not end the process.
    let _handled = signal(SignalKind::hangup()).expect("a signal to wait for");
    let watching = tokio::spawn(server.tls.clone().watch(server.shutdown.clone()));
    tokio::task::yield_now().await;
    let before = expiry(&server.metrics);
    mounted.put(&authority.sign(2040));
    let this_process = rustix::process::getpid();
    rustix::process::kill_process(this_process, rustix::process::Signal::HUP).expect("sent");
    let began = std::time::Instant::now();
    while expiry(&server.metrics) == before {
        assert!(began.elapsed() < Duration::from_mins(1), "nobody looks");
        tokio::task::yield_now().await;
    }
    server.shutdown.begin_now();
    watching.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_holds_nobody_up_and_is_dropped() {
    let authority = Authority::new();
    let (_mounted, files) = Mounted::new(&authority.sign(2050), None);
    let server = serve(files);
    let mut silent = TcpStream::connect(server.address).await.expect("connected");
    let started = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let (served, closed) = tokio::join!(
        async {
            let answer = get(server.address, &client(&authority, &["h2"], None)).await;
            answer.map(|_| started.elapsed())
        },
        silent.read_to_end(&mut answer),
    );
    assert!(served.expect("an answer") < ServeOptions::default().tls_handshake_timeout);
    assert_eq!(closed.expect("an orderly close"), 0);
    assert_eq!(started.elapsed(), ServeOptions::default().tls_handshake_timeout);
}

#[test]
fn wrong_files_stop_the_start_with_the_setting_that_names_them() {
    let authority = Authority::new();
    let (mounted, files) = Mounted::new(&authority.sign(2050), None);
    let problems = |arguments: &[(&str, &Path)]| {
        let arguments = arguments
            .iter()
            .map(|(flag, path)| format!("--{flag}={}", path.display()));
        let none = std::iter::empty::<(String, String)>();
        match load(
            "gateway",
            &[TLS_SETTINGS],
            arguments,
            none,
            TlsFiles::read_settings,
        ) {
            Ok(Outcome::Start { config, .. }) => Ok(config),
            Ok(other) => panic!("{other:?}"),
            Err(problems) => Err(problems.to_string()),
        }
    };
    let (cert, key) = (
        ("tls-cert", files.cert.as_path()),
        ("tls-key", files.key.as_path()),
    );
    assert_eq!(problems(&[]), Ok(None));
    assert_eq!(problems(&[cert, key]), Ok(Some(files.clone())));
    let other = mounted.0.path().join("other.key");
    std::fs::write(&other, authority.sign(2050).key).expect("written");
    let missing = mounted.0.path().join("missing");
    for (arguments, says) in [
        (vec![cert], "tls_cert (--tls-cert): needs tls_key"),
        (vec![key], "tls_key (--tls-key): needs tls_cert"),
        (
            vec![("tls-client-ca", files.cert.as_path())],
            "tls_client_ca (--tls-client-ca): needs",
        ),
        (vec![cert, ("tls-key", &other)], "tls_key (--tls-key)"),
        (
            vec![cert, ("tls-key", &other)],
            "expected the private key of the certificate in",
        ),
        (
            vec![("tls-cert", &missing), key],
            "tls_cert (--tls-cert): cannot read",
        ),
        (
            vec![("tls-cert", &files.key), key],
            "expected a certificate as PEM",
        ),
        (
            vec![cert, ("tls-key", &files.cert)],
            "expected a private key as PEM",
        ),
        (
            vec![cert, key, ("tls-client-ca", &files.key)],
            "tls_client_ca (--tls-client-ca)",
        ),
        (
            vec![cert, key, ("tls-client-auth", Path::new("maybe"))],
            "expected required or optional",
        ),
    ] {
        let problems = problems(&arguments).expect_err(says);
        assert!(problems.contains(says), "missing {says:?} in:\n{problems}");
    }
}

#[tokio::test]
async fn a_client_follows_the_servers_authority_and_keeps_the_old_one_while_the_new_is_broken() {
    let (first, second) = (Authority::new(), Authority::new());
    let (_mounted, files) = Mounted::new(&first.sign(2050), Some((&first, ClientAuth::Required)));
    let old = serve(files);
    let (_mounted, files) = Mounted::new(&second.sign(2050), Some((&second, ClientAuth::Required)));
    let new = serve(files);
    let (mounted, _files) = Mounted::new(&first.sign(2050), Some((&first, ClientAuth::Required)));
    let path = |name: &str| mounted.0.path().join(name);
    let client = ClientTls::load(ClientTlsFiles {
        ca: path("ca.crt"),
        identity: Some((path("tls.crt"), path("tls.key"))),
        settings: ["ca", "cert", "key"],
    });
    let client = client.expect("good files");
    // A server that refuses a client's certificate says so after the handshake.
    let works = async |address| {
        let stream = TcpStream::connect(address).await.expect("connected");
        let Ok(mut stream) = client.connect("localhost", false, stream).await else {
            return false;
        };
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let sent = tokio::io::AsyncWriteExt::write_all(&mut stream, request).await;
        let mut answer = Vec::new();
        sent.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200")
    };
    assert_eq!(client.reload(), Reload::Unchanged);
    assert_eq!(
        [works(old.address).await, works(new.address).await],
        [true, false]
    );
    std::fs::write(path("ca.crt"), "no certificate").expect("written");
    assert_eq!(client.reload(), Reload::Refused);
    assert!(works(old.address).await);
    std::fs::write(path("ca.crt"), second.certificate.pem()).expect("written");
    mounted.put(&second.sign(2050));
    assert_eq!(client.reload(), Reload::Replaced);
    assert_eq!(
        [works(old.address).await, works(new.address).await],
        [false, true]
    );
}
