//! Who is let in, over real sockets.

use std::fmt::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use plumbline_gateway::AccessSpec;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::*;

/// A directory with a file of keys: `ann-key` of ann, `bob-key` of bob, who is in `risk`, and one that has expired.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.put_keys(&[
            ("ann", "ann-key", ""),
            ("bob", "bob-key", "groups = [\"risk\"]"),
            ("old", "old-key", "expires = 2001-01-01T00:00:00Z"),
        ]);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put_keys(&self, keys: &[(&str, &str, &str)]) {
        let table = |(principal, key, more): &(&str, &str, &str)| {
            let mut hash = String::new();
            for byte in digest(&SHA256, key.as_bytes()).as_ref() {
                write!(hash, "{byte:02x}").expect("written");
            }
            format!("[[key]]\nprincipal = \"{principal}\"\nhash = \"sha256:{hash}\"\n{more}\n")
        };
        let text: String = keys.iter().map(table).collect();
        std::fs::write(self.path("keys.toml"), text).expect("written");
    }

    /// `keys`, and what else is in the table.
    pub(crate) fn access(&self, more: &str) -> AccessSpec {
        let keys = self.path("keys.toml");
        AccessSpec::parse(&format!("keys = \"{}\"\n{more}", keys.display())).expect("valid")
    }
}

fn with(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request
        .headers_mut()
        .append(name, HeaderValue::try_from(value).expect("a value"));
    request
}

pub(crate) fn with_key(request: Request<Full<Bytes>>, key: &str) -> Request<Full<Bytes>> {
    with(request, "x-api-key", key)
}

fn with_token(request: Request<Full<Bytes>>, token: &str) -> Request<Full<Bytes>> {
    with(request, "authorization", &format!("Bearer {token}"))
}

/// Answers clients of both kinds.
pub(crate) async fn predictor() -> FakePredictor {
    FakePredictor::answering(Reply::grpc_or_echo).await
}

/// `churn`, `fraud-eu` and `iris` at one predictor.
fn start(predictor: &FakePredictor, access: AccessSpec) -> TestGateway {
    let routes = ["churn", "fraud-eu", "iris"].map(|model| route(model, &[predictor.url()]));
    TestGateway::start(routes.into(), |config| config.access = access)
}

fn challenge(answer: &Response<Incoming>) -> Option<&str> {
    answer.headers().get("www-authenticate")?.to_str().ok()
}

#[tokio::test]
async fn a_key_lets_its_owner_in_and_nobody_else() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(&predictor, files.access(""));
    let answer = gateway.infer("churn").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(challenge(&answer), Some("Bearer realm=\"plumbline\""));
    assert_eq!(
        error_of(answer).await,
        "credentials are required: an API key or a bearer token"
    );
    let infer = || infer("churn");
    for (request, error) in [
        (with_key(infer(), "ann-kez"), "the credential is not valid"),
        (with_token(infer(), "ann-kez"), "the credential is not valid"),
        (with_token(infer(), "a.b.c"), "the credential is not valid"),
        (
            with(infer(), "authorization", "Basic YW5uOmtleQ=="),
            "the credential is not valid",
        ),
        (
            with(infer(), "authorization", "Bearer "),
            "the credential is not valid",
        ),
        (with_key(infer(), "old-key"), "the credential has expired"),
        (
            with_key(with_token(infer(), "ann-key"), "ann-key"),
            "more than one credential was given",
        ),
        (
            with_key(with_key(infer(), "ann-key"), "bob-key"),
            "more than one credential was given",
        ),
        (
            with_token(infer(), &"x".repeat(20_000)),
            "the credential is larger than 16384 bytes",
        ),
    ] {
        let answer = gateway.send(request).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(challenge(&answer).is_some_and(|challenge| challenge.contains("error=")));
        assert_eq!(error_of(answer).await, error);
    }
    for request in [
        with_key(infer(), "ann-key"),
        with_token(infer(), "ann-key"),
        with(infer(), "authorization", "bearer  bob-key"),
    ] {
        assert_eq!(gateway.send(request).await.status(), StatusCode::OK);
    }
    let refused = gateway.grpc(grpc_infer("churn")).await;
    assert_eq!(
        (
            refused.status(),
            refused.headers["www-authenticate"].to_str().ok()
        ),
        ("16", Some("Bearer realm=\"plumbline\""))
    );
    assert_eq!(
        gateway
            .grpc(with_token(grpc_infer("churn"), "ann-key"))
            .await
            .status(),
        "0"
    );
    for request in predictor.received(4).await {
        assert!(
            request.header("authorization").is_empty() && request.header("x-api-key").is_empty(),
            "credentials go no further"
        );
    }
    for path in ["/v2/health/ready", "/v2/health/live", "/"] {
        assert_eq!(
            gateway.send(get(path)).await.status(),
            StatusCode::OK,
            "{path}: for whoever probes"
        );
    }
    for path in ["/v2", "/v1/models", "/v2/models/nobody"] {
        assert_eq!(
            gateway.send(get(path)).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    let metrics = gateway.admin("/metrics").await;
    for series in [
        r#"plumbline_gateway_access_total{decision="identified",reason="key"} 4"#,
        r#"plumbline_gateway_access_total{decision="refused",reason="expired"} 1"#,
        r#"plumbline_gateway_access_total{decision="refused",reason="several"} 2"#,
        "plumbline_gateway_access_keys 3",
    ] {
        assert!(metrics.contains(series), "missing {series} in:\n{metrics}");
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_waited_for() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(&predictor, files.access(""));
    let mut stream = TcpStream::connect(gateway.address).await.expect("connected");
    let head = "POST /v2/models/churn/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
        .await
        .expect("sent");
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)
        .await
        .expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn credentials_go_on_where_the_configuration_says_so_or_reads_none() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(&predictor, files.access("forward_credentials = true"));
    gateway.send(with_key(infer("churn"), "ann-key")).await;
    let open = start(&predictor, AccessSpec::default());
    open.send(with_token(infer("churn"), "the-endpoints-own")).await;
    let requests = predictor.received(2).await;
    assert_eq!(requests[0].header("x-api-key"), "ann-key");
    assert_eq!(requests[1].header("authorization"), "Bearer the-endpoints-own");
}

#[tokio::test]
async fn the_policy_is_about_the_model_that_a_request_goes_to() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(
        &predictor,
        files.access(
            "[[allow]]\nprincipals = [\"ann\"]\nmodels = [\"churn\"]\nverbs = [\"infer\"]\n\
             [[allow]]\ngroups = [\"risk\"]\nmodels = [\"fraud-*\"]\n\
             [[allow]]\nanonymous = true\nmodels = [\"iris\"]\nverbs = [\"metadata\"]\n",
        ),
    );
    let metadata = |model: &str| get(&format!("/v2/models/{model}"));
    for (request, key, status) in [
        (infer("churn"), Some("ann-key"), 200),
        (post("/v1/models/churn:predict", ROW), Some("ann-key"), 200),
        (infer("%63hurn"), Some("ann-key"), 200),
        (metadata("churn"), Some("ann-key"), 403),
        (infer("fraud-eu"), Some("ann-key"), 403),
        (infer("fraud%2Deu"), Some("ann-key"), 403),
        // Whether there is such a model is not for those who may not have it.
        (infer("fraud-us"), Some("ann-key"), 403),
        (infer("fraud-us"), Some("bob-key"), 404),
        (infer("fraud-eu"), Some("bob-key"), 200),
        (metadata("iris"), Some("bob-key"), 403),
        (metadata("iris"), None, 200),
        (infer("iris"), None, 401),
        (infer("fraud-us"), None, 401),
    ] {
        let target = request.uri().clone();
        let request = match key {
            Some(key) => with_key(request, key),
            None => request,
        };
        let answer = gateway.send(request).await;
        assert_eq!(answer.status(), status, "{target} {key:?}");
        if status == 403 {
            assert!(error_of(answer).await.starts_with("not allowed: "));
        }
    }
    assert_eq!(
        gateway
            .grpc(with_key(grpc_infer("churn"), "ann-key"))
            .await
            .status(),
        "0"
    );
    assert_eq!(
        gateway
            .grpc(with_key(grpc_infer("fraud-eu"), "ann-key"))
            .await
            .status(),
        "7"
    );
    assert_eq!(gateway.grpc(grpc_infer("churn")).await.status(), "16");
    for (key, models) in [("ann-key", json!(["churn"])), ("bob-key", json!(["fraud-eu"]))] {
        let answer = gateway.send(with_key(get("/v1/models"), key)).await;
        let list: Value = serde_json::from_str(&text(answer).await).expect("JSON");
        assert_eq!(list["models"], models, "{key}");
    }
}

#[tokio::test]
async fn keys_change_while_the_gateway_serves() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(&predictor, files.access(""));
    let status = async |key: &str| gateway.send(with_key(infer("churn"), key)).await.status();
    assert_eq!(status("ann-key").await, StatusCode::OK);
    let replaced = async |times: u32| {
        let series = format!("keys_reloads_total{{outcome=\"replaced\"}} {times}");
        gateway.until_counted(&series).await;
    };
    files.put_keys(&[("eve", "eve-key", "")]);
    replaced(1).await;
    assert_eq!(status("eve-key").await, StatusCode::OK);
    assert_eq!(status("ann-key").await, StatusCode::UNAUTHORIZED);
    std::fs::write(files.path("keys.toml"), "[[key]").expect("written");
    gateway
        .until_counted("keys_reloads_total{outcome=\"refused\"} 1")
        .await;
    assert_eq!(
        status("eve-key").await,
        StatusCode::OK,
        "a broken file changes nothing"
    );
    files.put_keys(&[("ann", "ann-key", "")]);
    replaced(2).await;
    assert_eq!(status("ann-key").await, StatusCode::OK);
    assert_eq!(status("eve-key").await, StatusCode::UNAUTHORIZED);
}

struct TokenIssuer(EcdsaKeyPair);

impl TokenIssuer {
    fn new() -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).expect("a key"))
    }

    fn set(&self, id: &str) -> String {
        let point = &self.0.public_key().as_ref()[1..];
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encoded(&point[..32]), "y": encoded(&point[32..])});
        json!({ "keys": [key] }).to_string()
    }

    fn token(&self, id: &str, name: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": "https://issuer", "aud": "models", "sub": name, "exp": 4_000_000_000_u64});
        let message = format!("{}.{}", part(&json!({"alg": "ES256", "kid": id})), part(&claims));
        let signature = self
            .0
            .sign(&SystemRandom::new(), message.as_bytes())
            .expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_lets_its_subject_in() {
    let (issuer, predictor) = (TokenIssuer::new(), predictor().await);
    let document = issuer.set("k1");
    let keys = FakePredictor::answering(move |_| Reply::json(document.clone())).await;
    let access = format!(
        "[[issuer]]\nissuer = \"https://issuer\"\naudience = \"models\"\njwks_url = \"{}/keys.json\"\n\
         [[allow]]\nprincipals = [\"ann\"]\nmodels = [\"churn\"]\n",
        keys.url()
    );
    let gateway = start(&predictor, AccessSpec::parse(&access).expect("valid"));
    gateway.ready().await;
    assert_eq!(keys.received(1).await[0].path(), "/keys.json");
    for _ in 0..2 {
        let answer = gateway
            .send(with_token(infer("churn"), &issuer.token("k1", "ann")))
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let token = issuer.token("k1", "ann");
    assert_eq!(
        gateway
            .grpc(with_token(grpc_infer("churn"), &token))
            .await
            .status(),
        "0"
    );
    assert_eq!(
        gateway
            .grpc(with_token(grpc_infer("churn"), &token))
            .await
            .status(),
        "0"
    );
    for (token, status) in [
        (issuer.token("k1", "bob"), StatusCode::FORBIDDEN),
        (issuer.token("k2", "ann"), StatusCode::UNAUTHORIZED),
        (TokenIssuer::new().token("k1", "ann"), StatusCode::UNAUTHORIZED),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(
            gateway.send(with_token(infer("churn"), &token)).await.status(),
            status,
            "{token}"
        );
    }
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics.contains(r#"plumbline_gateway_token_cache_total{outcome="hit"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"plumbline_gateway_issuer_keys{issuer="https://issuer"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_an_issuers_keys_nobody_can_tell_and_other_clients_are_served() {
    let (files, predictor, away) = (Files::new(), predictor().await, RefusingPort::new());
    let access = files.access(&format!(
        "[[issuer]]\nissuer = \"https://issuer\"\naudience = \"models\"\njwks_url = \"{}\"\n",
        away.url()
    ));
    let gateway = start(&predictor, access);
    gateway.ready().await;
    let token = TokenIssuer::new().token("k1", "ann");
    let answer = gateway.send(with_token(infer("churn"), &token)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(
        gateway
            .grpc(with_token(grpc_infer("churn"), &token))
            .await
            .status(),
        "14"
    );
    assert_eq!(
        gateway.send(with_key(infer("churn"), "ann-key")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let (files, predictor) = (Files::new(), predictor().await);
    let gateway = start(
        &predictor,
        files.access("[[limit]]\nname = \"each\"\nrate = \"1/h\"\nburst = 2\nmodels = [\"churn\"]\n"),
    );
    let ask = async |model: &str, key: &str| gateway.send(with_key(infer(model), key)).await;
    let answer = ask("churn", "ann-key").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["ratelimit-policy"], "\"each\";q=2;w=7200");
    assert_eq!(answer.headers()["ratelimit"], "\"each\";r=1;t=3600");
    assert_eq!(ask("churn", "ann-key").await.status(), StatusCode::OK);
    let answer = ask("churn", "ann-key").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["ratelimit-policy"], "\"each\";q=2;w=7200");
    let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
    assert!(header("ratelimit").starts_with("\"each\";r=0;t="));
    let wait: u64 = header("retry-after").parse().expect("seconds");
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert!(error_of(answer).await.starts_with("too many requests; "));
    let refused = gateway.grpc(with_key(grpc_infer("churn"), "ann-key")).await;
    assert_eq!(refused.status(), "8");
    let wait: u64 = refused.headers["grpc-retry-pushback-ms"]
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("milliseconds");
    assert!((3_000_000..=3_600_000).contains(&wait), "{wait}");
    assert_eq!(
        ask("churn", "bob-key").await.status(),
        StatusCode::OK,
        "another client"
    );
    let answer = ask("iris", "ann-key").await;
    assert_eq!(
        (answer.status(), answer.headers().get("ratelimit")),
        (StatusCode::OK, None),
        "another model"
    );
}

#[tokio::test]
async fn heads_are_bounded_by_settings_that_the_answer_names() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.head.header_bytes = 1_000;
        config.head.headers = 150;
        config.head.target = 300;
    });
    let many = |count: usize| (0..count).fold(get("/v2"), |request, _| with(request, "x", "y"));
    assert_eq!(
        gateway.send(many(120)).await.status(),
        StatusCode::OK,
        "more than hyper's own limit"
    );
    let answer = gateway
        .http2()
        .await
        .send_request(many(160))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(
        error_of(answer).await,
        "the request has more than 150 header fields"
    );
    assert_eq!(
        gateway.send(many(160)).await.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let answer = gateway.send(with(infer("churn"), "x", &"y".repeat(1_000))).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(
        error_of(answer).await,
        "the request's header fields are larger than 1000 bytes"
    );
    let answer = gateway.infer(&"m".repeat(300)).await;
    assert_eq!(answer.status(), StatusCode::URI_TOO_LONG);
    assert_eq!(
        error_of(answer).await,
        "the request's target is longer than 300 bytes"
    );
}
