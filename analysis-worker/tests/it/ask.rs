//! Questions and capacity advice, from a scripted Prometheus.

use std::process::Output;

use plumbline_testkit::gemini::{API_KEY, FakeGemini, answer};
use plumbline_testkit::predictor::{FakePredictor, Received, Reply};
use serde_json::{Value, json};
use tokio::process::Command;

async fn run(prometheus: &FakePredictor, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"));
    command.args(arguments);
    command.args(["--prometheus", &prometheus.url()]);
    command.output().await.expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn success(data: &Value) -> Reply {
    Reply::json(json!({"status": "success", "data": data}).to_string())
}

fn parameter(request: &Received, name: &str) -> String {
    let query = request.uri.query().unwrap_or("");
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
    percent_decode(value.unwrap_or(""))
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        if bytes[place] == b'%' {
            decoded.push(u8::from_str_radix(&text[place + 1..place + 3], 16).expect("hex"));
            place += 3;
        } else {
            decoded.push(bytes[place]);
            place += 1;
        }
    }
    String::from_utf8(decoded).expect("UTF-8")
}

async fn prometheus() -> FakePredictor {
    FakePredictor::answering(|request| match request.path() {
        "/api/v1/label/model/values" => success(&json!(["churn"])),
        "/api/v1/label/version/values" => success(&json!(["1", "2"])),
        "/api/v1/query" => success(&json!({
            "resultType": "vector",
            "result": [{"metric": {"model": "churn", "version": "2"}, "value": [1, "0.0123"]}],
        })),
        _ => Reply::status(http::StatusCode::NOT_FOUND),
    })
    .await
}

#[tokio::test]
async fn a_question_is_answered_with_its_query() {
    let prometheus = prometheus().await;
    let output = run(&prometheus, &["ask", "What's the p95 latency of model v2?"]).await;
    let answer = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(answer.contains("12.3 ms (churn, version 2)"), "{answer}");
    let expected = r#"histogram_quantile(0.95, sum by (model, version, le) (rate(plumbline_request_duration_seconds_bucket{version="2"}[5m])))"#;
    assert!(answer.contains(&format!("Query: `{expected}`")), "{answer}");
    let asked = prometheus.received(3).await;
    assert_eq!(parameter(&asked[2], "query"), expected);

    let output = run(
        &prometheus,
        &["ask", "--question=p95 of churn", "--format", "json"],
    )
    .await;
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["values"][0]["value"], 0.0123);
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_ends_with_1_and_the_reason() {
    let prometheus = prometheus().await;
    for (question, reason) in [
        (
            "latency of model fraud",
            "there is no model `fraud` in Prometheus; there are: churn",
        ),
        ("tell me a joke", "no measurement matches the question"),
    ] {
        let output = run(&prometheus, &["ask", question]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
    let broken = FakePredictor::answering(|_| Reply::json("<html>")).await;
    let output = run(&broken, &["ask", "latency"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("not an answer of Prometheus"),
        "{}",
        text(&output.stderr)
    );
    let worker = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
        .args(["ask", "latency"])
        .output()
        .await
        .expect("it ends");
    assert_eq!(worker.status.code(), Some(2));
    assert!(
        text(&worker.stderr).contains("--prometheus URL"),
        "{}",
        text(&worker.stderr)
    );
}

#[tokio::test]
async fn a_language_model_picks_where_code_cannot_and_nothing_else() {
    let prometheus = prometheus().await;
    let pick = json!({"measurement": "latency", "model": "churn", "version": "", "quantile": 0.5, "window": "1h", "ago": "0m"});
    let injected = json!({"measurement": "latency", "model": "churn\"} or up{", "version": "", "quantile": 0.5, "window": "1h", "ago": "0m"});
    for (picked, code, expected) in [
        (&pick, 0, "P50 of the latency of churn, over 1h: 12.3 ms"),
        (&injected, 1, "a model was picked that there is not"),
    ] {
        let gemini = FakeGemini::answering({
            let picked = picked.to_string();
            move |_| answer(&picked)
        })
        .await;
        let question = "How snappy has it felt lately? my key is ghp_A1b2A1b2A1b2A1b2A1b2A1b2A1b2A1b2A1b2";
        let url = gemini.url();
        let arguments = [
            "ask",
            question,
            "--provider=gemini",
            "--gemini-api-key",
            API_KEY,
            "--gemini-url",
            &url,
        ];
        let output = run(&prometheus, &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains(expected), "{said}");
        let asked = &gemini.received(1).await[0];
        assert!(
            asked
                .prompt()
                .contains("1| How snappy has it felt lately? my key is [REDACTED:github_token:1]")
        );
        assert!(asked.system().contains("You do not answer the question"));
    }
}

#[tokio::test]
async fn what_can_be_asked_for_is_listed_without_a_prometheus() {
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"))
        .args(["ask", "--list", "--format=json"])
        .output()
        .await
        .expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = list.as_array().expect("a list");
    assert!(
        list.len() > 20 && list.iter().all(|each| each["query"].is_string()),
        "{list:?}"
    );
}

#[tokio::test]
async fn capacity_is_told_from_history() {
    // Peaks of 100 + 5 a day at noon; a request takes 10 core-milliseconds; 2 replicas with 2 cores each.
    let prometheus = FakePredictor::answering(|request| {
        let query = parameter(request, "query");
        if request.path() == "/api/v1/query" {
            let value = if query.starts_with("count") { "2" } else { "4" };
            return success(
                &json!({"resultType": "vector", "result": [{"metric": {}, "value": [1, value]}]}),
            );
        }
        let seconds = |name| parameter(request, name).parse::<f64>().expect("seconds");
        let (start, end) = (seconds("start"), seconds("end"));
        let first = (start / 86_400.0).ceil();
        let mut values = Vec::new();
        let mut at = start;
        while at <= end {
            let rate = if (at - 43_200.0) % 86_400.0 == 0.0 {
                100.0 + 5.0 * (((at / 86_400.0).floor()) - first)
            } else {
                20.0
            };
            let value = if query.contains("process_cpu") {
                rate * 0.01
            } else {
                rate
            };
            values.push(json!([at, value.to_string()]));
            at += 3_600.0;
        }
        success(&json!({"resultType": "matrix", "result": [{"metric": {}, "values": values}]}))
    })
    .await;
    let output = run(&prometheus, &["capacity", "--of", "churn", "--days", "21"]).await;
    let advice = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for expected in [
        "Daily peaks change by +5 requests a second each day",
        "a request takes 10 core-milliseconds",
        "At 70 % use that is enough for 280 requests a second",
        "Enough for about",
    ] {
        assert!(advice.contains(expected), "{expected}: {advice}");
    }
    let nothing = FakePredictor::answering(|_| success(&json!({"resultType": "matrix", "result": []}))).await;
    let output = run(&nothing, &["capacity", "--of", "churn"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no requests of churn in the last 28 days"));
}
