//! The documents that the server makes of itself.

use http::StatusCode;

use crate::models::{self, Dim, Labels};
use crate::support::TestServer;

async fn server() -> TestServer {
    let files = [
        ("churn/3/model.onnx", models::classifier(&Labels::Strings)),
        (
            "floats/model.onnx",
            models::identity(models::FLOAT, &[Dim::Any, Dim::Size(2)]),
        ),
    ];
    TestServer::start(&files).await
}

#[tokio::test]
async fn every_model_has_a_document_by_name_and_by_version() {
    let server = server().await;
    let document = server.get("/v2/models/churn/openapi.json").await;
    assert_eq!(document.headers["content-type"], "application/json");
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let predict = &document["paths"]["/v1/models/churn:predict"]["post"];
    let row =
        &predict["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["predictions"];
    assert!(
        row["items"]["properties"]["probabilities"]["required"].is_array(),
        "{row}"
    );
    let document = server
        .get("/v2/models/churn/versions/3/openapi.json")
        .await
        .json();
    assert!(document["paths"]["/v2/models/churn/versions/3/infer"].is_object());
    for (path, status) in [
        ("/v2/models/none/openapi.json", StatusCode::NOT_FOUND),
        ("/v2/models/churn/versions/9/openapi.json", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
    assert_eq!(
        server.post("/v2/openapi.json", "").await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn the_server_has_a_document_and_a_page_of_all_models() {
    let server = server().await;
    let document = server.get("/v2/openapi.json").await.json();
    for path in ["/v2", "/v2/models/churn/infer", "/v2/models/floats/infer"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let page = server.get("/v2/docs").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let page = String::from_utf8(page.body.to_vec()).expect("text");
    assert!(
        page.contains("<h2>churn</h2>") && page.contains("<h2>floats</h2>"),
        "{page}"
    );
}
