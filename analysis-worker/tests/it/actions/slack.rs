//! What people do in Slack, and what Slack does to calls.

use plumbline_testkit::predictor::{FakePredictor, Received, Reply};

use super::*;

#[tokio::test]
async fn a_button_of_an_approver_starts_one_retraining() {
    let mut stage = Stage::start(|_| ()).await;
    let finished = stage.drift().await;
    let id = &finished.report.incident.id;
    stage.until(|slack| !slack.threads().is_empty()).await;
    let message = stage.slack.threads().remove(0);
    let value = message.button("approve_retraining").expect("a button");
    // Not everybody may, not from everywhere, and not something else.
    for (user, channel, value, expected) in [
        (
            "U0MALLORY",
            fake_slack::CHANNEL,
            value.as_str(),
            "not among those who decide",
        ),
        ("U0ALICE", "C0OTHER", value.as_str(), "another channel"),
        ("U0ALICE", fake_slack::CHANNEL, "1:0000", "does not count"),
        ("U0ALICE", fake_slack::CHANNEL, "x:y", "not one of ours"),
    ] {
        let before = stage.slack.responses().len();
        let answer = stage.press(user, channel, "approve_retraining", value).await;
        assert_eq!(answer.status, StatusCode::OK);
        let said = stage.said(before).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let before = stage.slack.responses().len();
    stage
        .press("U0ALICE", fake_slack::CHANNEL, "approve_retraining", &value)
        .await;
    assert!(stage.said(before).await.starts_with("Taken"));
    stage
        .until(|slack| {
            slack.threads()[0]
                .text()
                .contains("Retraining was started* by <@U0ALICE>")
        })
        .await;
    let dispatches = stage.github.dispatches(REPOSITORY);
    assert_eq!(dispatches.len(), 1);
    assert_eq!(dispatches[0]["inputs"]["model"], "churn");
    assert_eq!(&dispatches[0]["inputs"]["incident"], id);
    // The same button once more.
    let before = stage.slack.responses().len();
    stage
        .press("U0ALICE", fake_slack::CHANNEL, "approve_retraining", &value)
        .await;
    assert!(stage.said(before).await.contains("the request is approved by"));
    assert_eq!(stage.slack.refused(), Vec::<String>::new());

    stage.worker.post("/api/v1/events", recovered().to_string()).await;
    stage
        .until(|slack| {
            let messages = slack.messages();
            messages[0].text().contains("recovered · churn") && messages.len() == 2
        })
        .await;
    let reply = &stage.slack.messages()[1];
    assert_eq!(reply.thread_ts.as_ref(), Some(&message.ts));
    assert!(
        reply.text().contains("Recovered: no signal fires since"),
        "{reply:#?}"
    );
    let page = stage.worker.get(&format!("/incidents/{id}")).await.text();
    for expected in [
        "What policy decided",
        "urgency is P0",
        "slack:U0ALICE",
        "What was done outside",
        "acme/models",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[tokio::test]
async fn a_question_is_answered_where_it_was_asked() {
    let prometheus = FakePredictor::answering(|request| {
        let data = match request.path() {
            "/api/v1/query" => json!({"result": [{"metric": {"model": "churn"}, "value": [1, "0.0123"]}]}),
            "/api/v1/label/model/values" => json!(["churn"]),
            _ => json!([]),
        };
        Reply::json(json!({"status": "success", "data": data}).to_string())
    })
    .await;
    let url = prometheus.url();
    let stage = Stage::start(|config| config.sources.prometheus = Some(url.parse().expect("a URL"))).await;
    let response_url = stage.slack.response_url();
    for (question, expected) in [
        ("What's the p95 latency of churn?", "12.3 ms (churn)"),
        ("latency of model fraud <!channel>", "there is no model"),
    ] {
        let before = stage.slack.responses().len();
        let text = format!("ask {question}");
        let body = form(&[
            ("command", "/plumbline"),
            ("text", &text),
            ("response_url", &response_url),
        ]);
        let answer = stage.slack_sends(&body).await;
        assert_eq!(answer.json()["text"], "Looking it up …");
        let said = stage.said(before).await;
        assert!(said.contains(expected) && !said.contains("<!channel>"), "{said}");
    }
    let without = Stage::start(|_| ()).await;
    let body = form(&[
        ("command", "/plumbline"),
        ("text", "ask p95"),
        ("response_url", &response_url),
    ]);
    let answer = without.slack_sends(&body).await.json();
    assert!(
        answer["text"]
            .as_str()
            .is_some_and(|text| text.contains("no `prometheus` setting")),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_not_signed_by_slack_just_now_is_refused() {
    let stage = Stage::start(|_| ()).await;
    let body = form(&[("command", "/plumbline"), ("text", "incidents")]);
    let answer = stage.slack_sends(&body).await;
    assert_eq!(answer.json()["text"], "Nothing has happened yet.");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let old = (now - 301).to_string();
    let replayed = stage
        .signed(&body, &old, &sign(SECRET, &old, body.as_bytes()))
        .await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED);
    assert!(
        replayed.text().contains("more than five minutes old"),
        "{}",
        replayed.text()
    );
    let now = now.to_string();
    let forged = stage
        .signed(&body, &now, &sign("another secret", &now, body.as_bytes()))
        .await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    let unsigned = stage.worker.post("/api/v1/slack", body).await;
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    let metrics = stage.worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_rejected_total{intake="slack",reason="unauthorized"} 3"#),
        "{metrics}"
    );
    let answer = stage.slack_sends("nothing=1").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let without = TestWorker::start(|_| ()).await;
    assert_eq!(
        without.post("/api/v1/slack", "x=1").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn slack_asks_for_incidents_and_people_judge_reports() {
    let mut stage = Stage::start(|_| ()).await;
    let finished = stage.drift().await;
    let id = finished.report.incident.id.clone();
    let list = stage
        .slack_sends(&form(&[("command", "/plumbline"), ("text", "incidents")]))
        .await;
    let list = list.json()["text"].as_str().expect("text").to_owned();
    assert!(list.contains(&id) && list.contains("P0: churn:"), "{list}");
    let report = stage
        .slack_sends(&form(&[
            ("command", "/plumbline"),
            ("text", &format!("report {id}")),
        ]))
        .await;
    assert!(report.text().contains("Model churn"), "{}", report.text());
    let missing = stage
        .slack_sends(&form(&[("command", "/plumbline"), ("text", "report <!channel>")]))
        .await;
    assert!(
        missing.text().contains("There is no report of &lt;!channel&gt;."),
        "{}",
        missing.text()
    );
    stage.until(|slack| !slack.threads().is_empty()).await;
    let value = stage.slack.threads()[0]
        .button("report_wrong_cause")
        .expect("a button");
    let before = stage.slack.responses().len();
    stage
        .press("U0BOB", fake_slack::CHANNEL, "report_wrong_cause", &value)
        .await;
    assert!(stage.said(before).await.starts_with("Thank you"));
    stage
        .until(|slack| {
            slack.threads()[0]
                .text()
                .contains("0 found it useful, 1 say wrong cause")
        })
        .await;
    let metrics = stage.worker.metrics();
    assert!(
        metrics.contains(r#"plumbline_worker_verdicts_total{verdict="wrong_cause"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn slack_is_not_asked_again_before_it_allows_it() {
    let mut stage = Stage::start(|_| ()).await;
    stage
        .slack
        .fail("chat.postMessage", 1, fake_slack::Fault::Limited(3));
    let limited = tokio::time::Instant::now();
    stage.drift().await;
    stage.until(|slack| slack.threads().len() == 1).await;
    // Never earlier; how much later is no promise.
    assert!(limited.elapsed() >= Duration::from_secs(3));
    let calls = stage.slack.received(2).await;
    assert!(
        calls[..2]
            .iter()
            .all(|call| call.path() == "/api/chat.postMessage"),
        "a limit is no doubt"
    );
}

#[tokio::test]
async fn without_the_scope_to_look_a_message_is_not_risked_twice() {
    let mut stage = Stage::start(|_| ()).await;
    stage.slack.deny("conversations.history");
    stage
        .slack
        .fail("chat.postMessage", 1, fake_slack::Fault::AnswerLost);
    stage.drift().await;
    let calls = tokio::time::timeout(PATIENCE, stage.slack.received(3))
        .await
        .expect("in time");
    let paths: Vec<&str> = calls.iter().map(Received::path).collect();
    assert_eq!(
        paths[..3],
        [
            "/api/chat.postMessage",
            "/api/conversations.history",
            "/api/conversations.history"
        ]
    );
    assert_eq!(stage.slack.messages().len(), 1);
    let page = stage.worker.get("/outbox").await.text();
    assert!(
        page.contains("Slack: conversations.history: missing_scope"),
        "{page}"
    );
}
