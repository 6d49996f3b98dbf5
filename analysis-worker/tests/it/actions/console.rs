//! What people decide on the pages.

use super::*;

#[tokio::test]
async fn the_console_decides_with_its_token_from_its_own_pages_only() {
    let mut stage = Stage::start(|_| ()).await;
    stage.drift().await;
    let page = stage.worker.get("/approvals").await.text();
    assert!(
        page.contains("Train churn again") && page.contains("acme/models/retrain.yml@main"),
        "{page}"
    );
    let after = |text: &str, start: &str| {
        let from = text.find(start).unwrap_or_else(|| panic!("{start}: {text}")) + start.len();
        text[from..].split('"').next().unwrap_or_default().to_owned()
    };
    let action = after(&page, "action=\"");
    let digest = after(&page, "name=\"digest\" value=\"");
    let fields = |token: &str, name: &str, digest: &str| {
        form(&[
            ("token", token),
            ("name", name),
            ("choice", "approve"),
            ("digest", digest),
        ])
    };
    let host = stage.worker.url.trim_start_matches("http://").to_owned();
    let send = async |origin: &str, body: String| {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", host.as_str()),
            ("origin", origin),
        ];
        stage.worker.send(Method::POST, &action, &headers, body).await
    };
    let own = stage.worker.url.clone();
    for (origin, body, status, expected) in [
        (
            "http://evil.example",
            fields(CONSOLE, "ann", &digest),
            StatusCode::FORBIDDEN,
            "not sent by a page",
        ),
        (
            "null",
            fields(CONSOLE, "ann", &digest),
            StatusCode::FORBIDDEN,
            "not sent by a page",
        ),
        (
            &own,
            fields("guess", "ann", &digest),
            StatusCode::FORBIDDEN,
            "not the right one",
        ),
        (
            &own,
            fields(CONSOLE, " ", &digest),
            StatusCode::BAD_REQUEST,
            "A name is needed",
        ),
        (
            &own,
            fields(CONSOLE, "ann", &"0".repeat(64)),
            StatusCode::CONFLICT,
            "not the one that was shown",
        ),
    ] {
        let answer = send(origin, body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(expected), "{expected}: {}", answer.text());
    }
    let answer = send(&own, fields(CONSOLE, "ann", &digest)).await;
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (StatusCode::SEE_OTHER, &"/approvals".parse().expect("a value"))
    );
    let answer = send(&own, fields(CONSOLE, "bob", &digest)).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.text().contains("approved by console:ann"),
        "{}",
        answer.text()
    );
    stage
        .until(|slack| {
            slack
                .threads()
                .first()
                .is_some_and(|message| message.text().contains("Retraining was started"))
        })
        .await;
    assert_eq!(stage.github.dispatches(REPOSITORY).len(), 1);
    let page = stage.worker.get("/audit").await.text();
    assert!(
        page.contains("approved · console:ann") && page.contains("Head"),
        "{page}"
    );
}

#[tokio::test]
async fn pages_without_a_token_only_show() {
    let mut stage = Stage::start(|config| config.actions.console_token = None).await;
    stage.drift().await;
    let page = stage.worker.get("/approvals").await.text();
    assert!(
        page.contains("console_token") && !page.contains("<form"),
        "{page}"
    );
    let answer = stage.worker.post("/approvals/1", "choice=approve").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_effect_that_cannot_be_made_is_shown_and_can_be_retried() {
    let mut stage = Stage::start(|_| ()).await;
    stage
        .slack
        .fail("chat.postMessage", 1, fake_slack::Fault::Error("invalid_blocks"));
    stage.drift().await;
    stage.until(|slack| slack.received_so_far() >= 1).await;
    let dead = async {
        loop {
            let page = stage.worker.get("/outbox").await.text();
            if page.contains("Given up") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    let page = tokio::time::timeout(PATIENCE, dead).await.expect("in time");
    assert!(page.contains("Slack: chat.postMessage: invalid_blocks"), "{page}");
    let from = page.find("/outbox/").expect("a form");
    let path = page[from..].split('"').next().expect("an address").to_owned();
    let host = stage.worker.url.trim_start_matches("http://").to_owned();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", host.as_str()),
        ("origin", stage.worker.url.as_str()),
    ];
    let body = form(&[("token", CONSOLE), ("name", "ann")]);
    let answer = stage
        .worker
        .send(Method::POST, &path, &headers, body.clone())
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    stage.until(|slack| slack.threads().len() == 1).await;
    let answer = stage.worker.send(Method::POST, &path, &headers, body).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}
