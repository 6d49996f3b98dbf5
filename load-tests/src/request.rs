//! One inference request as prepared bytes: a row of a table for a model's named inputs.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The first row of the table in `csv` as a V2 JSON request for `model`, which the server at `address` describes.
///
/// # Errors
/// When the server does not describe the model, a column is missing or a cell is not of its input's datatype.
pub fn first_row(address: SocketAddr, model: &str, csv: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let metadata = metadata(address, model)?;
    let mut reader = csv::Reader::from_path(csv).with_context(|| format!("cannot read {}", csv.display()))?;
    let header = reader.headers()?.clone();
    let row = reader
        .records()
        .next()
        .with_context(|| format!("{} has no rows", csv.display()))??;
    let inputs = metadata["inputs"].as_array().context("metadata lists inputs")?;
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|input| tensor(input, &header, &row))
        .collect::<Result<_, _>>()?;
    let body = serde_json::to_vec(&json!({ "inputs": inputs }))?;
    Ok(message(&format!("/v2/models/{model}/infer"), &body))
}

fn tensor(input: &Value, header: &csv::StringRecord, row: &csv::StringRecord) -> anyhow::Result<Value> {
    let name = input["name"].as_str().context("an input has a name")?;
    let column = header.iter().position(|column| column == name);
    let cell = column
        .and_then(|column| row.get(column))
        .with_context(|| format!("no column `{name}`"))?;
    let value = match input["datatype"].as_str() {
        Some("BYTES") => json!(cell),
        _ if cell.is_empty() => Value::Null,
        _ => json!(
            cell.parse::<f64>()
                .with_context(|| format!("column `{name}`: `{cell}` is not a number"))?
        ),
    };
    Ok(json!({ "name": name, "datatype": input["datatype"], "shape": [1, 1], "data": [value] }))
}

/// A whole HTTP/1.1 POST.
fn message(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn metadata(address: SocketAddr, model: &str) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get(format!("/v2/models/{model}"))
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let response = client.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        ensure!(
            status.is_success(),
            "model `{model}`: {status} {}",
            String::from_utf8_lossy(&body)
        );
        Ok(serde_json::from_slice(&body)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_states_its_length() {
        let message = String::from_utf8(message("/v2/models/churn/infer", b"{}")).expect("text");
        assert!(
            message.starts_with("POST /v2/models/churn/infer HTTP/1.1\r\n"),
            "{message}"
        );
        assert!(message.ends_with("content-length: 2\r\n\r\n{}"), "{message}");
    }

    #[test]
    fn cells_take_their_input_s_datatype() {
        let header = csv::StringRecord::from(vec!["tenure", "Contract"]);
        let row = csv::StringRecord::from(vec!["12", "One year"]);
        let number = tensor(&json!({"name": "tenure", "datatype": "FP32"}), &header, &row).expect("a tensor");
        assert_eq!(number["data"], json!([12.0]));
        let text =
            tensor(&json!({"name": "Contract", "datatype": "BYTES"}), &header, &row).expect("a tensor");
        assert_eq!(text["data"], json!(["One year"]));
        let missing =
            tensor(&json!({"name": "gender", "datatype": "BYTES"}), &header, &row).expect_err("no column");
        assert_eq!(missing.to_string(), "no column `gender`");
    }
}
