//! The access log and `server-timing`.

use std::path::Path;

use http::{HeaderValue, StatusCode};
use plumbline_gateway::{AccessLogSpec, AccessLogTo, Config};
use serde_json::Value;

use crate::support::*;

fn logging(file: &Path, sample: f64) -> impl FnOnce(&mut Config) {
    let to = AccessLogTo::File(file.to_owned());
    move |config| config.access_log = AccessLogSpec { to, sample }
}

/// What the log has once the gateway has ended.
async fn lines(gateway: TestGateway, file: &Path) -> Vec<Value> {
    gateway.begin_shutdown();
    gateway.drained().await;
    let text = std::fs::read_to_string(file).expect("a log");
    let line = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(line).collect()
}

#[tokio::test]
async fn each_request_has_a_line_that_tells_who_what_where_and_how_long() {
    let predictor = FakePredictor::answering(Reply::grpc_or_echo).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], logging(&file, 1.0));
    let mut request = post("/v2/models/churn/infer?token=secret", ROW);
    let headers = request.headers_mut();
    headers.insert("x-request-id", HeaderValue::from_static("order-17"));
    headers.insert("authorization", HeaderValue::from_static("Bearer hunter2"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", HeaderValue::from_static(trace));
    let answered = text(gateway.send(request).await).await;
    gateway.grpc(grpc_infer("churn")).await;
    gateway.infer("nope").await;
    let endpoint = predictor.url();
    let lines = lines(gateway, &file).await;
    assert_eq!(lines.len(), 3);
    let of = |field: &str| {
        lines
            .iter()
            .map(|line| line[field].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(of("request_id")[0], "order-17");
    assert_eq!(of("trace_id")[0], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(of("client"), ["127.0.0.1"; 3]);
    assert_eq!(of("protocol"), ["v2", "grpc", "v2"]);
    assert_eq!(of("method"), ["POST"; 3]);
    assert_eq!(of("path")[0], "/v2/models/churn/infer");
    assert_eq!(of("path")[1], "/inference.GRPCInferenceService/ModelInfer");
    assert_eq!(of("model"), ["churn", "churn", "unknown"]);
    assert_eq!(of("endpoint")[..2], [endpoint.clone(), endpoint]);
    assert_eq!(of("status"), [200.into(), Value::Null, 404.into()]);
    assert_eq!(of("grpc_code")[1], "OK");
    assert_eq!(of("error")[2], "unknown_model");
    assert!(of("reason")[2].as_str().expect("a reason").contains("'nope'"));
    assert_eq!(
        (&of("bytes_in")[0], &of("bytes_out")[0]),
        (&ROW.len().into(), &answered.len().into())
    );
    assert_eq!(of("bytes_in")[1], model_infer("churn").len());
    for line in &lines {
        let number = |field: &str| line[field].as_f64().expect("a number");
        assert!(number("duration_ms") >= number("overhead_ms"), "{line}");
        line["time"]
            .as_str()
            .expect("a time")
            .parse::<jiff::Timestamp>()
            .expect("RFC 3339");
    }
    assert!(of("upstream_ms")[0].as_f64().expect("a number") > 0.0);
    let all = std::fs::read_to_string(&file).expect("a log");
    assert!(!all.contains("secret") && !all.contains("hunter2"), "{all}");
}

#[tokio::test]
async fn what_is_no_success_is_logged_whatever_the_share() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], logging(&file, 0.0));
    let left = gateway.spawn_infer().await;
    predictor.received(1).await;
    left.abort();
    predictor.aborted(1).await;
    predictor.release();
    for _ in 0..5 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert_eq!(gateway.infer("nope").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(gateway.grpc(grpc_infer("nope")).await.status(), "5");
    let lines = lines(gateway, &file).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    let aborted: Vec<&Value> = lines.iter().filter(|line| line["aborted"] == true).collect();
    assert_eq!(aborted.len(), 1);
    assert!(aborted[0].get("status").is_none() && aborted[0]["model"] == "churn");
}

#[tokio::test]
async fn attempts_and_their_last_endpoint_are_told() {
    let predictor = FakePredictor::echo().await;
    let refusing = RefusingPort::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let routes = vec![churn(&[refusing.url(), predictor.url()])];
    let gateway = TestGateway::start(routes, logging(&file, 1.0));
    for _ in 0..8 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    let lines = lines(gateway, &file).await;
    assert!(
        lines.iter().all(|line| line["endpoint"] == predictor.url()),
        "{lines:?}"
    );
    // The first that met the endpoint that refuses put it out.
    assert_eq!(
        lines.iter().filter(|line| line["retries"] == 1).count(),
        1,
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_written_stops_the_start() {
    let predictor = FakePredictor::echo().await;
    let mut config = Config::on_loopback(vec![churn(&[predictor.url()])]);
    logging(Path::new("/nowhere/access.log"), 1.0)(&mut config);
    let process = plumbline_service::Process::start(plumbline_gateway::PART, &config.common, Value::Null);
    let error = plumbline_gateway::App::bind(config, &process.expect("an admin port"));
    let error = error.expect_err("no such directory").to_string();
    assert_eq!(error, "cannot write to /nowhere/access.log (access_log)");
}

#[tokio::test]
async fn clients_are_told_where_the_time_went_if_they_are_to_be() {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    assert!(
        !gateway
            .infer("churn")
            .await
            .headers()
            .contains_key("server-timing")
    );
    let timing = |config: &mut Config| config.server_timing = true;
    let gateway = TestGateway::start(vec![churn(&[predictor.url()])], timing);
    for (model, asked) in [("churn", true), ("nope", false)] {
        let answer = gateway.infer(model).await;
        let told = answer.headers()["server-timing"]
            .to_str()
            .expect("text")
            .to_owned();
        let durations = told
            .strip_prefix("gateway;dur=")
            .and_then(|rest| rest.split_once(", upstream;dur="));
        let (own, upstream) = durations.unwrap_or_else(|| panic!("{told}"));
        assert!(own.parse::<f64>().expect("a number") > 0.0, "{told}");
        assert_eq!(upstream.parse::<f64>().expect("a number") > 0.0, asked, "{told}");
    }
}
