//! What is seen is counted; what is not seen is counted too, and no answer changes for either.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use plumbline_drift::SplitMix64;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::{grpc, rest};
use plumbline_sidecar::{Config, Hook, NamedProfile, Switch};
use plumbline_testkit::predictor::{Cut, FakePredictor, Reply, grpc_message};

use crate::harness::{Answer, TestSidecar, collect, h1, h1_client, h2, h2_client, post};
use crate::model::{INFER, PREDICT, Rows, Wire, answer, profile, request};

pub(crate) fn with_profile(config: &mut Config) {
    config.profiles = vec![NamedProfile {
        model: "churn".to_owned(),
        profile: profile(),
    }];
}

async fn send(address: std::net::SocketAddr, wire: Wire, rows: &[crate::model::Row]) -> Answer {
    let request = request(wire, rows);
    if wire.is_http2() {
        h2(address, request).await
    } else {
        h1(address, request).await
    }
}

/// Panics in the first of every `n` calls.
fn panicking_each(n: u64) -> Hook {
    let calls = AtomicU64::new(0);
    Hook::new(move || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        assert!(!call.is_multiple_of(n), "a test's panic");
    })
}

/// Sends so many requests, over every protocol in turn, past the sidecar and through it.
async fn answers_are_the_direct_ones(
    predictor: &FakePredictor,
    sidecar: &TestSidecar,
    rows: &[crate::model::Row],
    requests: usize,
) {
    for wire in Wire::ALL.into_iter().cycle().take(requests) {
        let direct = send(predictor.address(), wire, rows).await.comparable();
        let through = send(sidecar.address, wire, rows).await.comparable();
        assert_eq!(through, direct, "{wire:?}");
    }
}

#[tokio::test]
async fn every_protocol_is_observed_to_the_same_counts() {
    let predictor = FakePredictor::answering(answer).await;
    let rows = Rows::seeded(7).usual(50);
    let mut counted: Vec<(Wire, Vec<String>)> = Vec::new();
    for wire in Wire::ALL {
        let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
        let expected = send(predictor.address(), wire, &rows).await.comparable();
        assert_eq!(
            send(sidecar.address, wire, &rows).await.comparable(),
            expected,
            "{wire:?}"
        );
        sidecar.settled(1).await;
        let observed = sidecar.metric(r#"plumbline_rows_observed_total{model="churn",version="3"}"#);
        assert_eq!(
            observed,
            50.0,
            "{wire:?}: {}",
            crate::harness::exposition(&sidecar.process)
        );
        sidecar.nothing_is_lost(1).await;
        let exposition = crate::harness::exposition(&sidecar.process);
        let bins = exposition.lines().filter(|line| {
            ["plumbline_feature_bin", "plumbline_prediction_"]
                .iter()
                .any(|name| line.starts_with(name))
                && !line.contains("_sum") // a sum of FP32 and of JSON's decimals differ in the last digit
        });
        counted.push((wire, bins.map(str::to_owned).collect()));
    }
    let (_, reference) = &counted[0];
    let total = |prefix: &str| {
        let lines = reference.iter().filter(|line| line.starts_with(prefix));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum::<u64>()
    };
    assert_eq!(total("plumbline_feature_bin_total"), 100, "two features");
    assert_eq!(
        total("plumbline_prediction_bin_total"),
        150,
        "a label and two probabilities"
    );
    assert_eq!(total("plumbline_prediction_class_total"), 50);
    assert_eq!(total("plumbline_prediction_confidence_count"), 50);
    for (wire, other) in &counted {
        assert_eq!(other, reference, "{wire:?}");
    }
}

#[tokio::test]
async fn latency_is_counted_by_protocol_and_code() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(7).usual(1);
    for wire in Wire::ALL {
        send(sidecar.address, wire, &rows).await;
    }
    predictor.script(|_| Reply::json(r#"{"error":"full"}"#).with_status(StatusCode::TOO_MANY_REQUESTS));
    send(sidecar.address, Wire::V2Json, &rows).await;
    predictor.script(|_| Reply::grpc_error(8, "full"));
    send(sidecar.address, Wire::GrpcRaw, &rows).await;
    for (protocol, code, count) in [
        ("v1", "200", 2.0),
        ("v2", "200", 2.0),
        ("grpc", "OK", 2.0),
        ("v2", "429", 1.0),
        ("grpc", "RESOURCE_EXHAUSTED", 1.0),
    ] {
        let labels = format!("code=\"{code}\",model=\"churn\",protocol=\"{protocol}\",version=\"3\"");
        sidecar
            .metric_is(
                &format!("plumbline_request_duration_seconds_count{{{labels}}}"),
                count,
            )
            .await;
    }
    sidecar
        .metric_is(r#"plumbline_sidecar_overhead_seconds_count{model="churn"}"#, 8.0)
        .await;
    assert_eq!(sidecar.skipped("error_status"), 2.0);
}

#[tokio::test]
async fn what_cannot_be_observed_is_forwarded_and_counted() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.capture_limit = 20_000;
    })
    .await;
    let rows = Rows::seeded(3).usual(2);
    let encoded = {
        let mut request = request(Wire::V2Json, &rows);
        request
            .headers_mut()
            .insert("content-encoding", "br".parse().expect("a value"));
        request
    };
    let no_gzip = {
        let mut request = request(Wire::V2Json, &rows);
        request
            .headers_mut()
            .insert("content-encoding", "gzip".parse().expect("a value"));
        request
    };
    let other_model = {
        let mut request = request(Wire::V2Json, &rows);
        *request.uri_mut() = "/v2/models/other/infer".parse().expect("a path");
        request
    };
    let strangers = r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[2,1],"data":[1,2]}]}"#;
    let stranger =
        r#"{"model_name":"churn","outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1,2]}]}"#;
    let cases: [(&str, f64, Reply, http::Request<_>); 9] = [
        (
            "error_status",
            1.0,
            Reply::json("{}").with_status(StatusCode::BAD_REQUEST),
            request(Wire::V2Json, &rows),
        ),
        (
            "unparsable",
            2.0,
            Reply::json("[1, 2"),
            request(Wire::V2Json, &rows),
        ),
        (
            "unparsable",
            1.0,
            Reply::json("{}"),
            post(PREDICT, rest::JSON, "[[[["),
        ),
        ("encoded", 1.0, Reply::json("{}"), encoded),
        ("unparsable", 1.0, Reply::json("{}"), no_gzip),
        (
            "too_large",
            1.0,
            Reply::json(vec![b' '; 30_000]),
            request(Wire::V2Json, &rows),
        ),
        (
            "too_large",
            1.0,
            Reply::json("{}"),
            post(INFER, rest::JSON, vec![b' '; 30_000]),
        ),
        ("no_profile", 1.0, answer_of(&rows), other_model),
        (
            "no_subject",
            2.0,
            Reply::json(stranger),
            post(INFER, rest::JSON, strangers),
        ),
    ];
    let count = cases.len() as u64;
    let mut expected = std::collections::BTreeMap::<&str, f64>::new();
    for (reason, rows, reply, request) in cases {
        predictor.script({
            let reply = reply.clone();
            move |_| reply.clone()
        });
        let direct = h1(predictor.address(), request.clone()).await.comparable();
        assert_eq!(
            h1(sidecar.address, request).await.comparable(),
            direct,
            "{reason}"
        );
        *expected.entry(reason).or_default() += rows;
    }
    sidecar.nothing_is_lost(count).await;
    for (reason, rows) in expected {
        assert_eq!(sidecar.skipped(reason), rows, "{reason}");
    }
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert_eq!(observed, 0.0);
}

/// What the model says about `rows` over V2 JSON.
fn answer_of(rows: &[crate::model::Row]) -> Reply {
    Reply::json(answer_text("other", rows))
}

pub(crate) fn answer_text(model: &str, rows: &[crate::model::Row]) -> String {
    let labels: Vec<&str> = rows.iter().map(|_| "no").collect();
    let outputs = serde_json::json!([{"name": "output_label", "datatype": "BYTES", "shape": [rows.len()], "data": labels}]);
    serde_json::json!({"model_name": model, "outputs": outputs}).to_string()
}

#[tokio::test]
async fn compressed_bodies_are_forwarded_as_they_are_and_observed() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(3).usual(2);
    for (name, coding) in [("gzip", Coding::Gzip), ("deflate", Coding::Deflate)] {
        let reply = coding.compress(answer_text("churn", &rows).as_bytes());
        predictor.script(move |_| Reply::json(reply.clone()).header("content-encoding", name));
        let (mut head, body) = request(Wire::V2Json, &rows).into_parts();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        head.headers
            .insert("content-encoding", name.parse().expect("a value"));
        let request = http::Request::from_parts(head, Full::new(coding.compress(&body)));
        let direct = h1(predictor.address(), request.clone()).await.comparable();
        assert_eq!(h1(sidecar.address, request).await.comparable(), direct, "{name}");
    }
    sidecar.nothing_is_lost(2).await;
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert_eq!(observed, 2.0);
}

#[tokio::test]
async fn a_batch_without_rows_is_nothing_to_skip() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    for wire in [Wire::V2Json, Wire::V2Binary, Wire::GrpcRaw, Wire::GrpcTyped] {
        let direct = send(predictor.address(), wire, &[]).await.comparable();
        assert_eq!(
            send(sidecar.address, wire, &[]).await.comparable(),
            direct,
            "{wire:?}"
        );
    }
    sidecar.nothing_is_lost(4).await;
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert_eq!(observed, 4.0, "{}", crate::harness::exposition(&sidecar.process));
}

#[tokio::test]
async fn grpc_that_cannot_be_observed_is_forwarded_and_counted() {
    let predictor = FakePredictor::answering(|_| Reply::grpc(b"\xff\xff not a message")).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(3).usual(2);
    let call = |method: grpc::Method, body: bytes::Bytes| {
        let mut request = post(method.path(), grpc::CONTENT_TYPE, body);
        request.headers_mut().remove("host");
        request
    };
    let garbage = call(grpc::Method::ModelInfer, grpc_message(b"\xff\xff\xff"));
    let mut compressed = grpc_message(b"zip").to_vec();
    compressed[0] = 1;
    let compressed = call(grpc::Method::ModelInfer, compressed.into());
    let streaming = call(grpc::Method::ModelStreamInfer, grpc_message(b"\x0a\x05churn"));
    let good = request(Wire::GrpcRaw, &rows);
    let cases = [
        ("unparsable", garbage),
        ("encoded", compressed),
        ("unparsable", streaming),
        ("unparsable", good),
    ];
    for (reason, request) in cases {
        let direct = h2(predictor.address(), request.clone()).await.comparable();
        assert_eq!(
            h2(sidecar.address, request).await.comparable(),
            direct,
            "{reason}"
        );
    }
    sidecar.nothing_is_lost(4).await;
    assert_eq!(
        ["unparsable", "encoded"].map(|reason| sidecar.skipped(reason)),
        [4.0, 1.0]
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_counted() {
    let predictor = FakePredictor::answering(|_| Reply::json("0123456789").cut(Cut::MidBody)).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(3).usual(2);
    assert!(h1(sidecar.address, request(Wire::V2Json, &rows)).await.broken);
    sidecar.nothing_is_lost(1).await;
    assert_eq!(sidecar.skipped("upstream_failed"), 1.0);
    let labels = r#"code="502",model="churn",protocol="v2",version="3""#;
    sidecar
        .metric_is(
            &format!("plumbline_request_duration_seconds_count{{{labels}}}"),
            1.0,
        )
        .await;
}

#[tokio::test]
async fn a_panicking_observer_harms_nobody() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.before_analysis = Some(panicking_each(3));
    })
    .await;
    let rows = Rows::seeded(5).usual(4);
    answers_are_the_direct_ones(&predictor, &sidecar, &rows, 30).await;
    sidecar.nothing_is_lost(30).await;
    assert_eq!(sidecar.skipped("panic"), 10.0);
    assert_eq!(sidecar.metric("plumbline_sidecar_observer_panics_total"), 10.0);
    sidecar
        .metric_is(
            r#"plumbline_rows_observed_total{model="churn",version="3"}"#,
            80.0,
        )
        .await;
}

/// Bytes changed, cut off and repeated, in requests and in answers.
fn damage(random: &mut SplitMix64, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let at = |random: &mut SplitMix64, body: &[u8]| (random.uniform() * body.len() as f64) as usize;
    match random.next_u64() % 4 {
        0 => body.truncate(at(random, &body)),
        1 => body.extend_from_within(at(random, &body)..),
        _ => {
            for _byte in 0..=random.next_u64() % 8 {
                let place = at(random, &body);
                if let Some(byte) = body.get_mut(place) {
                    *byte = random.next_u64() as u8;
                }
            }
        }
    }
    body
}

#[tokio::test]
async fn damaged_bodies_pass_as_they_are() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let mut random = SplitMix64::new(99);
    let mut sent = 0;
    let arrived = Arc::new(Mutex::new(bytes::Bytes::new()));
    let (mut h1, mut h2) = (h1_client(sidecar.address).await, h2_client(sidecar.address).await);
    for wire in Wire::ALL {
        let rows = Rows::seeded(random.next_u64()).usual(3);
        let good = request(wire, &rows);
        predictor.script(answer);
        let reply = send(predictor.address(), wire, &rows).await;
        for _round in 0..60 {
            let body = damage(
                &mut random,
                good.body()
                    .clone()
                    .collect()
                    .await
                    .expect("whole")
                    .to_bytes()
                    .as_ref(),
            );
            let answer = damage(&mut random, &reply.body);
            let mut scripted = Reply::status(StatusCode::OK).chunk(answer.clone());
            if wire.is_http2() {
                scripted = scripted
                    .header("content-type", grpc::CONTENT_TYPE)
                    .trailer("grpc-status", "0");
            }
            let arriving = Arc::clone(&arrived);
            predictor.script(move |request| {
                if request.path() != "/v2/health/ready" {
                    *arriving.lock().unwrap_or_else(PoisonError::into_inner) = request.body.clone();
                }
                scripted.clone()
            });
            let mut damaged = good.clone().map(|_| Full::new(bytes::Bytes::from(body.clone())));
            damaged.headers_mut().remove("content-length");
            let response = if wire.is_http2() {
                h2.send_request(damaged).await
            } else {
                h1.ready().await.expect("kept alive");
                h1.send_request(damaged).await
            };
            let through = collect(response.expect("an answer")).await;
            assert_eq!(
                (through.status, &through.body[..], through.broken),
                (StatusCode::OK, &answer[..], false)
            );
            sent += 1;
            assert_eq!(*arrived.lock().unwrap_or_else(PoisonError::into_inner), body);
        }
    }
    sidecar.nothing_is_lost(sent).await;
    assert_eq!(sidecar.metric("plumbline_sidecar_observer_panics_total"), 0.0);
    assert!(sidecar.skipped("unparsable") > 100.0);
}

#[tokio::test]
async fn a_stalled_observer_costs_rows_and_no_answer() {
    let predictor = FakePredictor::answering(answer).await;
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.queue_items = NonZeroUsize::new(2).expect("not 0");
        config.before_analysis = Some(Hook::new(move || {
            // Until the test lets go; afterwards the channel is closed and nothing waits.
            let _let_go = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }));
    })
    .await;
    let rows = Rows::seeded(5).usual(1);
    let mut client = h1_client(sidecar.address).await;
    let direct = send(predictor.address(), Wire::V2Json, &rows).await.comparable();
    for _request in 0..20 {
        let response = client
            .send_request(request(Wire::V2Json, &rows))
            .await
            .expect("an answer");
        assert_eq!(collect(response).await.comparable(), direct);
        client.ready().await.expect("kept alive");
    }
    assert!(
        sidecar.skipped("queue_full") >= 15.0,
        "{}",
        sidecar.skipped("queue_full")
    );
    drop(release);
    sidecar.nothing_is_lost(20).await;
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert_eq!(observed + sidecar.skipped("queue_full"), 20.0);
    assert!(observed >= 2.0);
}

#[tokio::test]
async fn what_is_queued_at_the_end_is_observed() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(5).usual(10);
    for _request in 0..20 {
        send(sidecar.address, Wire::V2Json, &rows).await;
    }
    let process = sidecar.stop().await;
    let observed = crate::harness::metric(
        &process,
        r#"plumbline_rows_observed_total{model="churn",version="3"}"#,
    );
    assert_eq!(observed, 200.0);
}

#[tokio::test]
async fn profiles_are_found_beside_the_models_and_bad_ones_leave_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("written");
    };
    write("churn/1/profile.json", "not read: there is a higher version");
    write("churn/10/profile.json", &profile().to_json());
    write("broken/profile.json", "{\"format\": \"plumbline.profile\"}");
    write("..data/profile.json", "not a model");
    write("plain/model.onnx", "no profile");
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        config.model_dir = directory.path().into();
    })
    .await;
    let rows = Rows::seeded(5).usual(10);
    let direct = send(predictor.address(), Wire::V2Json, &rows).await.comparable();
    assert_eq!(
        send(sidecar.address, Wire::V2Json, &rows).await.comparable(),
        direct
    );
    sidecar
        .metric_is(
            r#"plumbline_rows_observed_total{model="churn",version="3"}"#,
            10.0,
        )
        .await;
    assert_eq!(sidecar.metric(r#"plumbline_profile_loaded{model="churn"}"#), 1.0);
    let exposition = crate::harness::exposition(&sidecar.process);
    assert!(
        exposition.contains(r#"plumbline_profile_loaded{model="broken"} 0"#),
        "{exposition}"
    );
    assert_eq!(
        exposition.matches("plumbline_profile_loaded{").count(),
        2,
        "{exposition}"
    );
}

#[tokio::test]
async fn with_analysis_off_requests_are_timed_and_nothing_is_read() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.analysis = Switch::Off;
        config.before_analysis = Some(Hook::new(|| panic!("nothing is for the observer")));
    })
    .await;
    let rows = Rows::seeded(5).usual(10);
    for wire in Wire::ALL {
        let direct = send(predictor.address(), wire, &rows).await.comparable();
        assert_eq!(
            send(sidecar.address, wire, &rows).await.comparable(),
            direct,
            "{wire:?}"
        );
    }
    sidecar.nothing_is_lost(6).await;
    assert_eq!(sidecar.skipped("off"), 6.0);
    let labels = r#"code="OK",model="churn",protocol="grpc",version="unknown""#;
    let series = format!("plumbline_request_duration_seconds_count{{{labels}}}");
    assert_eq!(sidecar.metric(&series), 2.0);
    assert_eq!(sidecar.metric("plumbline_sidecar_observer_panics_total"), 0.0);
}

#[tokio::test]
async fn a_version_that_is_named_is_compared_only_with_its_own_profile() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(5).usual(10);
    for (version, observed) in [("3", 10.0), ("4", 10.0)] {
        let mut request = request(Wire::V2Json, &rows);
        let path = format!("/v2/models/churn/versions/{version}/infer");
        *request.uri_mut() = path.parse().expect("a path");
        predictor.script({
            let rows = rows.clone();
            move |_| Reply::json(answer_text("churn", &rows))
        });
        h1(sidecar.address, request).await;
        let labels = r#"{model="churn",version="3"}"#;
        sidecar
            .metric_is(&format!("plumbline_rows_observed_total{labels}"), observed)
            .await;
    }
    sidecar.nothing_is_lost(2).await;
    let labels = r#"{model="churn",reason="no_profile",version="4"}"#;
    sidecar
        .metric_is(&format!("plumbline_rows_skipped_total{labels}"), 1.0)
        .await;
}

#[tokio::test]
async fn a_panic_beside_the_request_harms_nobody() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        // Not a divisor of the calls per exchange: each place comes round.
        config.while_forwarding = Some(panicking_each(7));
    })
    .await;
    let rows = Rows::seeded(5).usual(4);
    answers_are_the_direct_ones(&predictor, &sidecar, &rows, 60).await;
    sidecar.nothing_is_lost(60).await;
    let (panics, skipped) = (
        sidecar.metric("plumbline_sidecar_observer_panics_total"),
        sidecar.skipped("panic"),
    );
    assert!(
        skipped >= 10.0 && panics + 1.0 >= skipped,
        "{panics} panics, {skipped} skipped"
    );
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert_eq!(observed + skipped, 60.0);
}

#[tokio::test]
async fn bodies_over_the_budget_are_not_kept() {
    let predictor = FakePredictor::holding(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.capture_limit = 20_000;
        config.queue_bytes = 20_000;
    })
    .await;
    let rows = Rows::seeded(5).usual(200);
    let sending: Vec<_> = (0..10)
        .map(|_| {
            let (address, rows) = (sidecar.address, rows.clone());
            tokio::spawn(async move { send(address, Wire::V2Json, &rows).await })
        })
        .collect();
    predictor.received(10).await;
    predictor.release();
    let direct = send(predictor.address(), Wire::V2Json, &rows).await.comparable();
    for answer in sending {
        assert_eq!(answer.await.expect("answered").comparable(), direct);
    }
    sidecar.nothing_is_lost(10).await;
    let observed = sidecar.metric(r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#);
    assert!(
        observed <= 2.0,
        "{observed} exchanges of 15 kB each were kept in 20 kB"
    );
    assert_eq!(sidecar.skipped("over_budget"), 10.0 - observed);
    // What was kept has been given back.
    sidecar.metric_is("plumbline_sidecar_queue_bytes", 0.0).await;
    let few = Rows::seeded(6).usual(2);
    send(sidecar.address, Wire::V2Json, &few).await;
    sidecar
        .metric_is(
            r#"plumbline_sidecar_exchanges_total{outcome="observed"}"#,
            observed + 1.0,
        )
        .await;
}

#[tokio::test]
async fn without_any_profile_rows_are_counted() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let rows = Rows::seeded(5).usual(10);
    for wire in Wire::ALL {
        let direct = send(predictor.address(), wire, &rows).await.comparable();
        assert_eq!(
            send(sidecar.address, wire, &rows).await.comparable(),
            direct,
            "{wire:?}"
        );
    }
    sidecar.nothing_is_lost(6).await;
    assert_eq!(sidecar.skipped("no_profile"), 6.0, "their bodies are not read");
    assert_eq!(
        sidecar.admin("/drift").await.json(),
        serde_json::json!({"models": []})
    );
}

#[tokio::test]
async fn the_reference_is_shown_under_the_names_of_the_bin_counters() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let text = crate::harness::exposition(&sidecar.process);
    let bins = |metric: &str, label: &str| -> std::collections::BTreeSet<(String, String)> {
        let value = |line: &str, label: &str| {
            let rest = line.split_once(&format!("{label}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")));
        lines
            .filter_map(|line| Some((value(line, label)?, value(line, "bin")?)))
            .collect()
    };
    let counted: std::collections::BTreeSet<_> = bins("plumbline_feature_bin_total", "feature")
        .into_iter()
        .chain(bins("plumbline_prediction_bin_total", "output"))
        .collect();
    assert_eq!(bins("plumbline_reference_bin_rows", "subject"), counted);
    for subject in profile().subjects() {
        for (bin, rows) in subject.bin_names().iter().zip(subject.reference_counts()) {
            let name = &subject.name;
            let series = format!(
                r#"plumbline_reference_bin_rows{{bin="{bin}",model="churn",subject="{name}",version="3"}}"#
            );
            assert_eq!(sidecar.metric(&series), rows as f64, "{series}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_observes_goes_after_who_forwards() {
    let niceness = |thread| rustix::process::getpriority_process(thread).expect("told");
    let (seen, observer) = mpsc::channel();
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), move |config| {
        with_profile(config);
        config.before_analysis = Some(Hook::new(move || {
            let _nobody_waits = seen.send(niceness(Some(rustix::thread::gettid())));
        }));
    })
    .await;
    send(sidecar.address, Wire::ALL[0], &Rows::seeded(7).usual(1)).await;
    sidecar.settled(1).await;
    let own = niceness(Some(rustix::thread::gettid()));
    assert!(observer.recv().expect("observed") > own);
}
