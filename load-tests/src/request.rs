//! Requests as prepared bytes: rows of a model's inputs in one of the protocol's encodings.
//!
//! Written here a second time, apart from `plumbline-inference-protocol`, so that a fault of its codecs cannot hide.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method};
use serde::Serialize;
use serde_json::{Value, json};

use crate::inputs::{Input, Values};

/// The protocol's ways to carry an inference request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// V1 REST: `instances`.
    V1,
    /// V2 REST, JSON both ways.
    V2,
    /// V2 REST, binary tensors both ways.
    V2Binary,
    /// V2 gRPC, raw contents; over HTTP/2.
    Grpc,
    /// Any other body: only the status is judged.
    Other,
}

impl Encoding {
    /// As the tables have it.
    pub fn label(self) -> &'static str {
        match self {
            Encoding::V1 => "V1 JSON",
            Encoding::V2 => "V2 JSON",
            Encoding::V2Binary => "V2 binary",
            Encoding::Grpc => "gRPC",
            Encoding::Other => "other",
        }
    }
}

/// A request in the bytes of HTTP/1.1 and in the parts of HTTP/2.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tells how to judge the answer.
    pub encoding: Encoding,
    /// A whole HTTP/1.1 message.
    pub http1: Bytes,
    /// Head for HTTP/2.
    pub http2: http::Request<()>,
    /// Body for HTTP/2.
    pub body: Bytes,
}

impl Request {
    /// Any request.
    ///
    /// # Errors
    /// When the path or a header is not one.
    pub fn new(
        encoding: Encoding,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> anyhow::Result<Self> {
        ensure!(path.starts_with('/'), "the path `{path}` does not start with `/`");
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        let mut http2 = http::Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"));
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
            http2 = http2.header(*name, HeaderValue::from_str(value)?);
        }
        write!(head, "content-length: {}\r\n\r\n", body.len())?;
        Ok(Self {
            encoding,
            http1: [head.as_bytes(), &body].concat().into(),
            http2: http2.body(()).with_context(|| format!("path `{path}`"))?,
            body,
        })
    }

    /// With one more header field.
    ///
    /// # Errors
    /// When the value is not one.
    pub fn with_header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        self.http2
            .headers_mut()
            .insert(name, HeaderValue::from_str(value)?);
        let (head, body) = self.http1.split_at(self.http1.len() - self.body.len());
        let head = head
            .strip_suffix(b"\r\n")
            .context("a head ends with an empty line")?;
        self.http1 = [head, format!("{name}: {value}\r\n\r\n").as_bytes(), body]
            .concat()
            .into();
        Ok(self)
    }

    /// A GET.
    ///
    /// # Errors
    /// When the path is not one.
    pub fn get(path: &str) -> anyhow::Result<Self> {
        Self::new(Encoding::Other, Method::GET, path, &[], Bytes::new())
    }

    /// A POST of JSON.
    ///
    /// # Errors
    /// When the path is not one.
    pub fn post(path: &str, body: &Value) -> anyhow::Result<Self> {
        let headers = [("content-type", "application/json".to_owned())];
        Self::new(
            Encoding::Other,
            Method::POST,
            path,
            &headers,
            body.to_string().into(),
        )
    }

    /// An inference request for `model` with these inputs, all of the same number of rows.
    ///
    /// # Errors
    /// When an encoding cannot carry the inputs.
    pub fn infer(encoding: Encoding, model: &str, inputs: &[Input]) -> anyhow::Result<Self> {
        let json = || ("content-type", "application/json".to_owned());
        match encoding {
            Encoding::V1 => {
                let body = Bytes::from(v1(inputs)?.to_string());
                let path = format!("/v1/models/{model}:predict");
                Self::new(encoding, Method::POST, &path, &[json()], body)
            }
            Encoding::V2 => {
                let inputs = inputs.iter().map(V2Tensor::of).collect();
                let body = Bytes::from(serde_json::to_vec(&V2Body { inputs })?);
                let path = format!("/v2/models/{model}/infer");
                Self::new(encoding, Method::POST, &path, &[json()], body)
            }
            Encoding::V2Binary => {
                let (length, body) = v2_binary(inputs);
                let headers = [
                    ("content-type", "application/octet-stream".to_owned()),
                    ("inference-header-content-length", length.to_string()),
                ];
                let path = format!("/v2/models/{model}/infer");
                Self::new(encoding, Method::POST, &path, &headers, body.into())
            }
            Encoding::Grpc => {
                let message = grpc_message(model, inputs);
                let mut body = vec![0];
                body.extend_from_slice(&(message.len() as u32).to_be_bytes());
                body.extend_from_slice(&message);
                let headers = [
                    ("content-type", "application/grpc".to_owned()),
                    ("te", "trailers".to_owned()),
                ];
                let path = "/inference.GRPCInferenceService/ModelInfer";
                Self::new(encoding, Method::POST, path, &headers, body.into())
            }
            Encoding::Other => anyhow::bail!("an inference request needs one of the protocol's encodings"),
        }
    }
}

/// Row format: bare rows of a model with one input, objects otherwise.
fn v1(inputs: &[Input]) -> anyhow::Result<Value> {
    let rows = inputs
        .first()
        .and_then(|input| input.shape.first())
        .context("an input")?;
    let row = |input: &Input, row: i64| -> Value {
        let width = input.width();
        let cells: Vec<Value> = (row as usize * width..(row as usize + 1) * width)
            .map(|cell| input.values.json(cell))
            .collect();
        // A column of a table is one value a row.
        match (&cells[..], input.shape.len()) {
            ([cell], _) if inputs.len() > 1 => cell.clone(),
            ([cell], 1) => cell.clone(),
            _ => Value::Array(cells),
        }
    };
    let instances: Vec<Value> = (0..*rows)
        .map(|index| match inputs {
            [input] => row(input, index),
            inputs => inputs
                .iter()
                .map(|input| (input.name.clone(), row(input, index)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        })
        .collect();
    for input in inputs {
        ensure!(
            input.shape.len() <= 2 && input.shape.first() == Some(rows),
            "input `{}`: shape {:?} is not rows for V1",
            input.name,
            input.shape
        );
    }
    Ok(json!({ "instances": instances }))
}

#[derive(Serialize)]
struct V2Body<'a> {
    inputs: Vec<V2Tensor<'a>>,
}

/// A tensor, its members in the order of `tritonclient` and `kserve`: what is needed to read the values comes first.
#[derive(Serialize)]
struct V2Tensor<'a> {
    name: &'a str,
    shape: &'a [i64],
    datatype: &'a str,
    data: Vec<Value>,
}

impl V2Tensor<'_> {
    fn of(input: &Input) -> V2Tensor<'_> {
        V2Tensor {
            name: &input.name,
            shape: &input.shape,
            datatype: &input.datatype,
            data: (0..input.values.len())
                .map(|index| input.values.json(index))
                .collect(),
        }
    }
}

/// The length of the JSON part, and both parts.
fn v2_binary(inputs: &[Input]) -> (usize, Vec<u8>) {
    let raw: Vec<Vec<u8>> = inputs.iter().map(Input::raw).collect();
    let tensors: Vec<Value> = inputs
        .iter()
        .zip(&raw)
        .map(|(input, raw)| {
            json!({
                "name": input.name, "shape": input.shape, "datatype": input.datatype,
                "parameters": { "binary_data_size": raw.len() },
            })
        })
        .collect();
    let mut body = json!({ "inputs": tensors, "parameters": { "binary_data_output": true } })
        .to_string()
        .into_bytes();
    let length = body.len();
    body.extend(raw.into_iter().flatten());
    (length, body)
}

/// `ModelInferRequest`: 1 `model_name`, 5 `inputs` {1 name, 2 datatype, 3 shape}, 7 `raw_input_contents`.
fn grpc_message(model: &str, inputs: &[Input]) -> Vec<u8> {
    let mut message = Vec::new();
    field(&mut message, 1, model.as_bytes());
    for input in inputs {
        let mut tensor = Vec::new();
        field(&mut tensor, 1, input.name.as_bytes());
        field(&mut tensor, 2, input.datatype.as_bytes());
        let mut shape = Vec::new();
        for dimension in &input.shape {
            varint(&mut shape, *dimension as u64);
        }
        field(&mut tensor, 3, &shape);
        field(&mut message, 5, &tensor);
    }
    for input in inputs {
        field(&mut message, 7, &input.raw());
    }
    message
}

/// A length-delimited field.
fn field(to: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(to, number << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

impl Values {
    fn json(&self, index: usize) -> Value {
        match self {
            // An `f32`'s own shortest text, not that of the `f64` it widens to.
            Values::F32(values) => {
                serde_json::from_str(&format!("{:?}", values[index])).unwrap_or(Value::Null)
            }
            Values::F64(values) => json!(values[index]),
            Values::Int(values) => json!(values[index]),
            Values::Bool(values) => json!(values[index]),
            Values::Text(values) => json!(values[index]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64], values: Values) -> Input {
        Input {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            values,
        }
    }

    fn body_of(request: &Request) -> Value {
        serde_json::from_slice(&request.body).expect("JSON")
    }

    #[test]
    fn v1_rows_are_bare_for_one_input_and_objects_for_several() {
        let x = input("x", "FP32", &[2, 2], Values::F32(vec![0.1, 2.0, 3.0, 4.5]));
        let request = Request::infer(Encoding::V1, "m", std::slice::from_ref(&x)).expect("rows");
        assert_eq!(body_of(&request), json!({"instances": [[0.1, 2.0], [3.0, 4.5]]}));
        let city = input(
            "city",
            "BYTES",
            &[2, 1],
            Values::Text(vec!["Rome".into(), "Oslo".into()]),
        );
        let request = Request::infer(Encoding::V1, "m", &[x, city]).expect("rows");
        assert_eq!(
            body_of(&request)["instances"][1],
            json!({"x": [3.0, 4.5], "city": "Oslo"})
        );
    }

    /// The research's test vector of the binary tensor extension: both parts, byte by byte.
    #[test]
    fn binary_tensors_follow_the_json_part() {
        let inputs = [
            input("x", "FP32", &[1, 2], Values::F32(vec![1.0, -2.5])),
            input("s", "BYTES", &[2], Values::Text(vec!["ab".into(), String::new()])),
        ];
        let request = Request::infer(Encoding::V2Binary, "m", &inputs).expect("tensors");
        let length: usize = request.http2.headers()["inference-header-content-length"]
            .to_str()
            .expect("text")
            .parse()
            .expect("a number");
        let tail = [
            0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0, 2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0,
        ];
        assert_eq!(request.body[length..], tail);
        let json: Value = serde_json::from_slice(&request.body[..length]).expect("JSON");
        assert_eq!(json["inputs"][1]["parameters"]["binary_data_size"], 10);
        assert!(request.http1.ends_with(&tail));
    }

    #[test]
    fn a_header_is_added_to_both_forms() {
        let request = Request::post("/v2", &json!(1)).expect("a request");
        let request = request.with_header("x-api-key", "k").expect("a value");
        assert_eq!(request.http2.headers()["x-api-key"], "k");
        let text = std::str::from_utf8(&request.http1).expect("text");
        assert!(
            text.ends_with("content-length: 1\r\nx-api-key: k\r\n\r\n1"),
            "{text}"
        );
        assert!(request.with_header("x-api-key", "\n").is_err());
    }

    #[test]
    fn the_grpc_message_is_what_protobuf_says() {
        let inputs = [input("x", "INT32", &[1, 300], Values::Int(vec![7; 300]))];
        let request = Request::infer(Encoding::Grpc, "gb", &inputs).expect("a message");
        let (prefix, message) = request.body.split_at(5);
        assert_eq!(prefix[0], 0);
        assert_eq!(
            u32::from_be_bytes(prefix[1..].try_into().expect("four")) as usize,
            message.len()
        );
        let head = [
            0x0a, 2, b'g', b'b', 0x2a, 15, 0x0a, 1, b'x', 0x12, 5, b'I', b'N', b'T', b'3', b'2', 0x1a, 3, 1,
            0xac, 0x02,
        ];
        assert_eq!(message[..21], head);
        assert_eq!(message[21..24], [0x3a, 0xb0, 0x09]);
        assert_eq!(message[24..28], [7, 0, 0, 0]);
        assert_eq!(message.len(), 24 + 1_200);
    }
}
