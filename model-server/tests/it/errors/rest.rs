//! Faults over REST.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{MAX_BODY_BYTES, server};

/// A row of the table: what is sent, and what has to come back.
struct Row {
    what: &'static str,
    method: Method,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    status: u16,
    code: &'static str,
    says: &'static str,
}

/// A `POST` that has to be answered with 400 and `code`.
fn bad(what: &'static str, path: &'static str, body: impl Into<Bytes>, code: &'static str) -> Row {
    let (method, body) = (Method::POST, body.into());
    Row {
        what,
        method,
        path,
        headers: Vec::new(),
        body,
        status: 400,
        code,
        says: "",
    }
}

impl Row {
    fn status(self, status: u16) -> Row {
        Row { status, ..self }
    }

    fn says(self, says: &'static str) -> Row {
        Row { says, ..self }
    }

    fn header(mut self, name: &'static str, value: &dyn ToString) -> Row {
        self.headers.push((name, value.to_string()));
        self
    }

    fn method(self, method: Method) -> Row {
        Row { method, ..self }
    }

    fn get(self) -> Row {
        self.method(Method::GET)
    }
}

const SIMPLE: &str = "/v2/models/simple/infer";
const FLOATS: &str = "/v2/models/floats/infer";
const COLUMNS: &str = "/v1/models/columns:predict";
const CHURN: &str = "/v1/models/churn:predict";
const LENGTH: &str = "inference-header-content-length";

/// A valid request for `simple` after `change`.
fn simple(change: impl FnOnce(&mut Value)) -> String {
    let input =
        |name: &str| json!({"name": name, "datatype": "INT32", "shape": [1, 4], "data": [1, 2, 3, 4]});
    let mut body = json!({"inputs": [input("INPUT0"), input("INPUT1")]});
    change(&mut body);
    body.to_string()
}

/// The same with another value of a member of its first input.
fn with(member: &str, value: &Value) -> String {
    simple(|body| body["inputs"][0][member] = value.clone())
}

/// The same without a member of its first input.
fn without(member: &str) -> String {
    simple(|body| {
        let input = body["inputs"][0].as_object_mut().expect("an object");
        input.remove(member).expect("the member is there");
    })
}

/// The same with these requested outputs.
fn wanting(outputs: &[&str]) -> String {
    let outputs: Vec<Value> = outputs.iter().map(|name| json!({"name": name})).collect();
    simple(|body| body["outputs"] = outputs.into())
}

/// A body for the one input `x` of a model.
fn x(datatype: &str, value: &Value) -> String {
    json!({"inputs": [{"name": "x", "datatype": datatype, "shape": [1], "data": [value]}]}).to_string()
}

/// A binary request for `floats`: JSON with this size, its length, and then these bytes.
fn binary(size: usize, bytes: usize) -> (Vec<u8>, usize) {
    let parameters = json!({"binary_data_size": size});
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": parameters});
    let head = json!({"inputs": [input]}).to_string();
    ([head.as_bytes(), &vec![0; bytes]].concat(), head.len())
}

#[rustfmt::skip] // a row a line
fn bodies() -> Vec<Row> {
    let deep = format!("{{\"x\":{}", "[".repeat(2_000));
    vec![
        bad("empty body", SIMPLE, "", "malformed_json"),
        bad("half a body", SIMPLE, "{\"inputs\": [", "malformed_json").says("at byte"),
        bad("text after the body", SIMPLE, simple(|_| {}) + "x", "malformed_json"),
        bad("an array", SIMPLE, "[]", "invalid_field").says("expected an object"),
        bad("nested too deep", SIMPLE, deep, "json_too_deep").says("deeper than the limit"),
        bad("no inputs", SIMPLE, "{}", "missing_field").says("`inputs`"),
        bad("inputs of no kind", SIMPLE, "{\"inputs\": 3}", "invalid_field").says("expected an array"),
        bad("no name", SIMPLE, without("name"), "missing_field").says("name"),
        bad("no shape", SIMPLE, without("shape"), "missing_field").says("shape"),
        bad("no datatype", SIMPLE, without("datatype"), "missing_field").says("datatype"),
        bad("no data", SIMPLE, without("data"), "missing_data").says("`INPUT0`"),
        bad("unknown datatype", SIMPLE, with("datatype", &json!("INT33")), "unknown_datatype").says("INT33"),
        bad("other datatype", SIMPLE, with("datatype", &json!("INT64")), "datatype_mismatch")
            .says("model `simple`: input `INPUT0`: expected datatype INT32, got INT64"),
        bad("negative dimension", SIMPLE, with("shape", &json!([-1, 4])), "invalid_shape").says("negative"),
        bad("overflowing shape", SIMPLE, with("shape", &json!([i64::MAX, i64::MAX])), "invalid_shape"),
        bad("fractional dimension", SIMPLE, with("shape", &json!([1.5, 4])), "invalid_field"),
        bad("other shape", SIMPLE, with("shape", &json!([4, 1])), "shape_mismatch").says("expected shape [-1, 4], got [4, 1]"),
        bad("too few values", SIMPLE, with("data", &json!([1, 2, 3])), "element_count_mismatch")
            .says("input `INPUT0`: expected 4 values for shape [1, 4], got 3"),
        bad("too many values", SIMPLE, with("data", &json!([1, 2, 3, 4, 5])), "element_count_mismatch"),
        bad("ragged values", SIMPLE, with("data", &json!([[1, 2], [3, 4]])), "ragged_data"),
        bad("value out of range", SIMPLE, with("data", &json!([1, 2, 3, 2_147_483_648_i64])), "invalid_value").says("value 3"),
        bad("fraction for an integer", SIMPLE, with("data", &json!([1, 2, 3, 4.5])), "invalid_value"),
        bad("text for a number", SIMPLE, with("data", &json!([1, 2, 3, "4"])), "invalid_value"),
        bad("negative unsigned", "/v2/models/small/infer", x("UINT8", &json!(-1)), "invalid_value"),
        bad("number for text", "/v2/models/bytes/infer", x("BYTES", &json!(1)), "invalid_value"),
        bad("text for a boolean", "/v2/models/bools/infer", x("BOOL", &json!("true")), "invalid_value"),
        bad("half precision in JSON", "/v2/models/half/infer", x("FP16", &json!(1.0)), "datatype_needs_raw"),
        bad("unknown input", SIMPLE, with("name", &json!("INPUT9")), "unexpected_input")
            .says("unexpected input `INPUT9`, expected `INPUT0`, `INPUT1`"),
        bad("missing input", SIMPLE, simple(|b| b["inputs"] = json!([b["inputs"][0]])), "missing_inputs").says("missing `INPUT1`"),
        bad("input twice", SIMPLE, with("name", &json!("INPUT1")), "duplicate_tensor"),
        bad("unknown output", SIMPLE, wanting(&["OUTPUT9"]), "unexpected_output").says("expected `OUTPUT0`, `OUTPUT1`"),
        bad("output twice", SIMPLE, wanting(&["OUTPUT0", "OUTPUT0"]), "duplicate_tensor"),
        bad("different rows", SIMPLE, simple(|b| {
            b["inputs"][1] = json!({"name": "INPUT1", "datatype": "INT32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]});
        }), "rows_mismatch").says("input `INPUT1`: expected 1 rows as in the first input, got 2"),
        bad("a timeout of no kind", SIMPLE, simple(|b| b["parameters"] = json!({"timeout": "soon"})), "invalid_field"),
        bad("too late", SIMPLE, simple(|b| b["parameters"] = json!({"timeout": 1})), "deadline_exceeded").status(504),
        bad("an operator that refuses", "/v2/models/product/infer", json!({"inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
            {"name": "b", "datatype": "FP32", "shape": [1, 1], "data": [1]},
        ]}).to_string(), "invalid_argument").says("cannot run with these values: operator MatMul: "),
    ]
}

#[rustfmt::skip] // a row a line
fn binaries() -> Vec<Row> {
    let (whole, length) = binary(8, 8);
    let (wrong, wrong_length) = binary(4, 4);
    let both = json!({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], "parameters": {"binary_data_size": 8}},
    ]}).to_string();
    let both_length = both.len();
    vec![
        bad("header not a number", FLOATS, whole.clone(), "invalid_header_length").header(LENGTH, &"many"),
        bad("negative header", FLOATS, whole.clone(), "invalid_header_length").header(LENGTH, &-1),
        bad("header beyond the body", FLOATS, whole.clone(), "invalid_header_length").header(LENGTH, &9_999),
        bad("no header", FLOATS, whole[..length].to_vec(), "invalid_header_length"),
        bad("binary too short", FLOATS, binary(8, 4).0, "binary_data_too_short").header(LENGTH, &length),
        bad("binary too long", FLOATS, binary(8, 12).0, "unexpected_additional_data").header(LENGTH, &length)
            .says("unexpected additional input data"),
        bad("size of another shape", FLOATS, wrong, "byte_size_mismatch").header(LENGTH, &wrong_length),
        bad("data and binary", FLOATS, [both.as_bytes(), &[0; 8]].concat(), "data_and_binary").header(LENGTH, &both_length),
        bad("raw binary of an odd length", FLOATS, vec![0_u8; 7], "invalid_raw_binary").header(LENGTH, &0),
        bad("raw binary for two inputs", SIMPLE, vec![0_u8; 32], "invalid_raw_binary").header(LENGTH, &0),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    plumbline_inference_protocol::coding::Coding::Gzip
        .compress(bytes)
        .to_vec()
}

#[rustfmt::skip] // a row a line
fn routes() -> Vec<Row> {
    let ok = || simple(|_| {});
    vec![
        bad("unknown model", "/v2/models/none/infer", ok(), "unknown_model").status(404).says("Request for unknown model"),
        bad("unknown version", "/v2/models/simple/versions/9/infer", ok(), "unknown_version").status(404)
            .says("Request for unknown model: 'simple' version 9 is not found"),
        bad("version of letters", "/v2/models/simple/versions/new/infer", ok(), "not_found").status(404).says("Not Found"),
        bad("unknown path", "/v3/models", "", "not_found").status(404).says("Not Found"),
        bad("wrong method", SIMPLE, "", "method_not_allowed").status(405).get().says("Method Not Allowed"),
        bad("wrong method for metadata", "/v2", "", "method_not_allowed").status(405),
        bad("metadata of no model", "/v2/models/none", "", "unknown_model").status(404).get(),
        bad("readiness of no model", "/v2/models/none/ready", "", "unknown_model").status(404).get(),
        bad("unknown coding", SIMPLE, ok(), "unsupported_content_encoding").status(415).header("content-encoding", &"br").says("`br`"),
        bad("two codings", SIMPLE, ok(), "unsupported_content_encoding").status(415).header("content-encoding", &"gzip, gzip").says("one only"),
        bad("not gzip", SIMPLE, ok(), "malformed_compressed_body").header("content-encoding", &"gzip").says("gzip"),
        bad("gzip cut short", SIMPLE, gzip(ok().as_bytes())[..20].to_vec(), "malformed_compressed_body").header("content-encoding", &"gzip"),
        bad("gzip that is no JSON", SIMPLE, gzip(b"{"), "malformed_json").header("content-encoding", &"gzip"),
        bad("gzip bomb", SIMPLE, gzip(&vec![b' '; 1 << 20]), "body_too_large").status(413).header("content-encoding", &"gzip").says("4096 bytes"),
        bad("body too large", SIMPLE, vec![b' '; MAX_BODY_BYTES + 1], "body_too_large").status(413).says("4096 bytes"),
        bad("gRPC over HTTP/1", SIMPLE, ok(), "invalid_argument").header("content-type", &"application/grpc").says("HTTP/2"),
        bad("an RPC without gRPC", "/inference.GRPCInferenceService/ModelInfer", "", "invalid_argument"),
    ]
}

/// A valid request for `simple` with these parameters.
fn parameters(parameters: &Value) -> String {
    simple(|body| body["parameters"] = parameters.clone())
}

/// The same with these parameters of its one requested output.
fn wanting_with(parameters: &Value) -> String {
    simple(|body| body["outputs"] = json!([{"name": "OUTPUT0", "parameters": parameters}]))
}

#[rustfmt::skip] // a row a line
fn extensions() -> Vec<Row> {
    let region = json!({"shared_memory_region": "r", "shared_memory_byte_size": 16});
    let shared = simple(|body| {
        body["inputs"][0] = json!({"name": "INPUT0", "datatype": "INT32", "shape": [1, 4], "parameters": region});
    });
    vec![
        bad("negative timeout", SIMPLE, parameters(&json!({"timeout": -1})), "invalid_field").says("timeout"),
        bad("fractional timeout", SIMPLE, parameters(&json!({"timeout": 1.5})), "invalid_field"),
        bad("a priority of no kind", SIMPLE, parameters(&json!({"priority": "high"})), "invalid_field").says("priority"),
        bad("negative priority", SIMPLE, parameters(&json!({"priority": -1})), "invalid_field"),
        bad("a sequence", SIMPLE, parameters(&json!({"sequence_id": 7})), "invalid_field").says("keep no state"),
        bad("a named sequence", SIMPLE, parameters(&json!({"sequence_id": "a"})), "invalid_field"),
        bad("start of a sequence", SIMPLE, parameters(&json!({"sequence_start": true})), "invalid_field"),
        bad("a reserved name", SIMPLE, parameters(&json!({"triton_mine": 1})), "invalid_field").says("reserved"),
        bad("parameters of no kind", SIMPLE, parameters(&json!([1])), "invalid_field"),
        bad("a parameter of no kind", SIMPLE, parameters(&json!({"mine": [1]})), "invalid_field"),
        bad("binary_data_output of no kind", SIMPLE, parameters(&json!({"binary_data_output": 1})), "invalid_field"),
        bad("binary_data of no kind", SIMPLE, wanting_with(&json!({"binary_data": "yes"})), "invalid_field"),
        bad("negative classification", SIMPLE, wanting_with(&json!({"classification": -1})), "invalid_field"),
        bad("classification of no kind", SIMPLE, wanting_with(&json!({"classification": "2"})), "invalid_field"),
        bad("classes of texts", "/v2/models/bytes/infer", json!({
            "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}],
            "outputs": [{"name": "y", "parameters": {"classification": 1}}],
        }).to_string(), "invalid_argument").says("expected numbers to classify, got datatype BYTES"),
        bad("an input in shared memory", SIMPLE, shared, "unsupported").status(501).says("input `INPUT0`: shared memory"),
        bad("an output in shared memory", SIMPLE, wanting_with(&region), "unsupported").status(501),
        bad("index of no repository", "/v2/repository/other/index", "", "invalid_argument").says("unknown repository `other`"),
        bad("index with half a body", "/v2/repository/index", "{", "invalid_argument"),
        bad("index with a wrong body", "/v2/repository/index", "{\"ready\": 1}", "invalid_argument").says("boolean"),
        bad("index with GET", "/v2/repository/index", "", "method_not_allowed").status(405).get(),
        bad("index with too much", "/v2/repository/index", vec![b' '; MAX_BODY_BYTES + 1], "body_too_large").status(413),
        bad("load where files decide", "/v2/repository/models/simple/load", "", "unsupported").status(501).says("model-control"),
        bad("unload where files decide", "/v2/repository/models/simple/unload", "", "unsupported").status(501),
        bad("load with an unknown parameter", "/v2/repository/models/simple/load",
            json!({"parameters": {"mine": "1"}}).to_string(), "invalid_argument").says("unknown parameter `mine`"),
        bad("load with a wrong configuration", "/v2/repository/models/simple/load",
            json!({"parameters": {"config": {}}}).to_string(), "invalid_field").says("parameters.config"),
        bad("load with a file that is not base64", "/v2/repository/models/simple/load",
            json!({"parameters": {"file:1/model.onnx": "%"}}).to_string(), "invalid_field").says("base64"),
        bad("unload with a wrong parameter", "/v2/repository/models/simple/unload",
            json!({"parameters": {"unload_dependents": 1}}).to_string(), "invalid_field"),
        bad("configuration of no model", "/v2/models/none/config", "", "unknown_model").status(404).get(),
        bad("configuration of no version", "/v2/models/simple/versions/9/config", "", "unknown_version").status(404).get(),
        bad("configuration with POST", "/v2/models/simple/config", "", "method_not_allowed").status(405),
        bad("statistics of no model", "/v2/models/none/stats", "", "unknown_model").status(404).get(),
        bad("statistics of no version", "/v2/models/simple/versions/9/stats", "", "unknown_version").status(404).get(),
        bad("trace settings of no model", "/v2/models/none/trace/setting", "", "unknown_model").status(404).get(),
        bad("another trace level", "/v2/trace/setting", "{\"trace_level\": [\"TIMESTAMPS\"]}", "unsupported").status(501),
        bad("another log level", "/v2/logging", "{\"log_info\": false}", "unsupported").status(501),
        bad("another method for logging", "/v2/logging", "", "method_not_allowed").status(405).method(Method::PUT),
        bad("shared memory", "/v2/systemsharedmemory/region/r/register", "{}", "unsupported").status(501),
        bad("a region that is none", "/v2/cudasharedmemory/region/r/status", "", "invalid_argument").get().says("region `r`"),
    ]
}

#[rustfmt::skip] // a row a line
fn v1() -> Vec<Row> {
    vec![
        bad("V1 of no model", "/v1/models/none:predict", "{}", "unknown_model").status(404),
        bad("V1 status of no model", "/v1/models/none", "", "unknown_model").status(404).get(),
        bad("V1 status of no version", "/v1/models/simple/versions/9", "", "unknown_version").status(404).get(),
        bad("V1 metadata of no model", "/v1/models/none/metadata", "", "unknown_model").status(404).get(),
        bad("V1 label", "/v1/models/simple/labels/stable:predict", "{}", "unknown_version").status(404)
            .says("version label `stable` is not found"),
        bad("V1 event without data", CHURN, json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t"}).to_string(),
            "missing_field").header("content-type", &"application/cloudevents+json").says("model `churn`: field `data`"),
        bad("V1 event that is none", CHURN, "[]", "invalid_field").header("content-type", &"application/cloudevents+json"),
        bad("V1 explain of no model", "/v1/models/none:explain", "{}", "unknown_model").status(404),
        bad("V1 explain", "/v1/models/churn:explain", "{}", "unsupported").status(501),
        bad("neither form", CHURN, "{}", "invalid_v1_form").says("exactly one of `instances` and `inputs`"),
        bad("both forms", CHURN, "{\"instances\": [[1, 2]], \"inputs\": [[1, 2]]}", "invalid_v1_form"),
        bad("V1 not JSON", CHURN, "instances", "malformed_json"),
        bad("V1 row too short", CHURN, "{\"instances\": [[1]]}", "ragged_data"),
        bad("V1 rows of different lengths", CHURN, "{\"instances\": [[1, 2], [1]]}", "ragged_data"),
        bad("V1 text for a number", CHURN, "{\"instances\": [[1, \"2\"]]}", "invalid_value"),
        bad("V1 unknown input", COLUMNS, "{\"instances\": [{\"id\": 1, \"plan\": \"a\", \"z\": 1}]}", "unexpected_input"),
        bad("V1 missing input", COLUMNS, "{\"instances\": [{\"id\": 1}]}", "missing_inputs"),
    ]
}

#[tokio::test]
async fn every_fault_has_its_status_and_a_sentence() {
    let server = server().await;
    let rows: Vec<Row> = [bodies(), binaries(), routes(), extensions(), v1()]
        .into_iter()
        .flatten()
        .collect();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let headers: Vec<(&str, &str)> = row
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = server.send(row.method, row.path, &headers, row.body).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        let right = answer.status.as_u16() == row.status
            && json["code"] == row.code
            && json["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty() && error.contains(row.says))
            && answer.headers["content-type"] == "application/json"
            && answer.headers.contains_key("x-request-id")
            && (answer.status != StatusCode::METHOD_NOT_ALLOWED || answer.headers.contains_key("allow"));
        if !right {
            let Row {
                what,
                status,
                code,
                says,
                ..
            } = row;
            wrong.push(format!(
                "{what}: expected {status} {code} {says:?}, got {} {body}",
                answer.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
