//! The pages as a browser gets them.

use http::StatusCode;
use serde_json::json;

use crate::support::{TestWorker, drift_event, good_answer, provider};
use plumbline_testkit::gemini::{FakeGemini, answer};

#[tokio::test]
async fn an_empty_worker_says_where_to_send() {
    let worker = TestWorker::start(|_| {}).await;
    let page = worker.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.text().contains("/api/v1/alerts"));
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self'"),
        "{policy}"
    );
    assert!(page.headers.contains_key("x-request-id"));
    assert_eq!(
        worker.get("/style.css").await.headers["content-type"],
        "text/css; charset=utf-8"
    );
    assert_eq!(worker.get("/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(worker.get("/incidents/none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_drift_report_is_a_page_with_plots_and_evidence() {
    let mut worker = TestWorker::start(|_| {}).await;
    worker.post("/api/v1/events", drift_event().to_string()).await;
    let id = worker.report().await.report.incident.id.clone();
    let list = worker.get("/").await.text();
    assert!(list.contains(&format!("href=\"/incidents/{id}\"")), "{list}");
    assert!(
        !list.contains("http-equiv=\"refresh\""),
        "nothing is going on any more"
    );
    let page = worker.get(&format!("/incidents/{id}")).await.text();
    for expected in [
        "<html lang=\"en\">",
        "churn: Contract and MonthlyCharges drifted",
        "Kind: data drift",
        "role=\"img\"",
        "Month-to-month from 55.0 % to 91.2 %",
        "MonthlyCharges",
        "offline analysis: code, from the evidence alone",
        "What could not be had",
        "report.md",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    // One plot for each of the four subjects that changed, each with a table behind it.
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 4);
    assert_eq!(page.matches("<summary>Figures of").count(), 4);
}

#[tokio::test]
async fn what_analyses_cost_is_shown_by_day_and_author() {
    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let provider = provider(&gemini, std::time::Duration::from_secs(30));
    let mut worker = TestWorker::start(|config| {
        config.provider = provider;
        config.provider_price = Some(2.0);
    })
    .await;
    assert!(worker.get("/cost").await.text().contains("No report yet"));
    worker.alert(&json!({"alertname": "X"}), &json!({})).await;
    worker.report().await;
    let page = worker.get("/cost").await.text();
    let row = page.split("<tr>").last().expect("a row");
    assert!(row.contains("gemini-3.5-flash") && row.contains(">1<"), "{row}");
    let cells: Vec<&str> = row.split("<td class=\"number\">").skip(1).collect();
    let number = |cell: usize| -> f64 {
        let text = cells[cell].split('<').next().expect("a text");
        text.parse().unwrap_or_else(|_| panic!("a number, not {text}"))
    };
    assert!(number(1) > 0.0, "tokens: {row}");
    assert!((number(2) - number(1) * 2.0 / 1e6).abs() <= 0.000_05, "{row}");
}

#[tokio::test]
async fn names_from_outside_are_shown_and_not_obeyed() {
    let mut worker = TestWorker::start(|_| {}).await;
    let mut event = drift_event();
    event["data"]["report"]["subjects"][0]["name"] = json!("<script>alert(1)</script>");
    event["data"]["report"]["subjects"][0]["bins"][0]["name"] = json!("\"><img src=x onerror=alert(1)>");
    worker.post("/api/v1/events", event.to_string()).await;
    let id = worker.report().await.report.incident.id.clone();
    for path in ["/".to_owned(), format!("/incidents/{id}")] {
        let page = worker.get(&path).await.text();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    }
}

#[tokio::test]
async fn a_page_reloads_itself_while_the_analysis_is_under_way() {
    let gemini = FakeGemini::holding(|_| answer(&good_answer().to_string())).await;
    let mut worker = TestWorker::asking(&gemini).await;
    let id = worker.alert(&json!({"alertname": "X"}), &json!({})).await;
    gemini.received(1).await;
    let page = worker.get(&format!("/incidents/{id}")).await.text();
    assert!(
        page.contains("http-equiv=\"refresh\"") && page.contains("analysing"),
        "{page}"
    );
    let missing = worker.get(&format!("/api/v1/incidents/{id}/report")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    gemini.release();
    worker.report().await;
    assert!(
        worker
            .get(&format!("/incidents/{id}"))
            .await
            .text()
            .contains("the model file is damaged")
    );
}
