use serde_json::{Value, json};

use super::*;
use crate::{Datatype, TensorSpec};

fn signature() -> ModelSignature {
    ModelSignature {
        model: "a churn/<b>".to_owned(),
        inputs: vec![
            TensorSpec::new("x", Datatype::Fp32, [-1, 4]),
            TensorSpec::new("s", Datatype::Bytes, [-1]),
        ],
        optional_inputs: vec![TensorSpec::new("scale", Datatype::Fp64, [1]).with_any_rank()],
        outputs: vec![TensorSpec::new("p", Datatype::Fp32, [-1, 2])],
    }
}

fn document(signature: &ModelSignature, version: Option<&str>) -> Value {
    let documented = DocumentedModel {
        signature,
        version,
        classes: None,
    };
    serde_json::from_slice(&model("1.2.3", &documented)).unwrap()
}

fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| &value[*key])
}

/// Every `$ref` points to something.
fn assert_complete(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            members
                .values()
                .for_each(|value| assert_complete(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| assert_complete(document, value)),
        _ => {}
    }
}

#[test]
fn a_models_document_has_its_paths_shapes_and_ranges() {
    let signature = signature();
    let document = document(&signature, None);
    assert_complete(&document, &document);
    let path = "/v2/models/a%20churn%2F%3Cb%3E/infer";
    let schema = at(
        &document,
        &[
            "paths",
            path,
            "post",
            "requestBody",
            "content",
            "application/json",
            "schema",
        ],
    );
    let inputs = at(schema, &["properties", "inputs"]);
    assert_eq!((&inputs["minItems"], &inputs["maxItems"]), (&json!(2), &json!(3)));
    let x = at(&inputs["items"]["anyOf"][0], &["properties"]);
    assert_eq!(x["name"], json!({"const": "x"}));
    assert_eq!(
        x["shape"]["prefixItems"],
        json!([{"type": "integer", "minimum": 0}, {"const": 4}])
    );
    let nested = &x["data"]["anyOf"][0];
    assert_eq!(
        (&nested["items"]["minItems"], &nested["minItems"]),
        (&json!(4), &Value::Null)
    );
    assert_eq!(
        nested["items"]["items"],
        json!({"type": "number", "format": "float"})
    );
    for status in [
        "200", "400", "404", "408", "413", "415", "429", "500", "501", "503", "504",
    ] {
        let response = at(&document, &["paths", path, "post", "responses", status]);
        assert!(response.is_object(), "{status}");
    }
}

#[test]
fn a_versions_document_names_it_in_its_paths() {
    let document = document(&signature(), Some("3"));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(paths.iter().all(|path| path.contains("/versions/3")), "{paths:?}");
    assert!(paths.iter().any(|path| path.ends_with("/versions/3:predict")));
}

#[test]
fn a_model_that_needs_binary_data_says_so() {
    let half = ModelSignature {
        inputs: vec![TensorSpec::new("x", Datatype::Fp16, [-1])],
        ..signature()
    };
    let document = document(&half, None);
    let paths = document["paths"].as_object().unwrap();
    assert!(!paths.keys().any(|path| path.ends_with(":predict")));
    let (_, infer) = paths.iter().find(|(path, _)| path.ends_with("/infer")).unwrap();
    let content = at(infer, &["post", "requestBody", "content"])
        .as_object()
        .unwrap();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["application/octet-stream"]);
}

#[test]
fn a_scalar_has_no_rows_and_whole_numbers_their_ends() {
    let scalar = ModelSignature {
        inputs: vec![TensorSpec::new("x", Datatype::Uint64, Vec::<i64>::new())],
        optional_inputs: Vec::new(),
        ..signature()
    };
    let document = document(&scalar, None);
    let paths = document["paths"].as_object().unwrap();
    let (_, predict) = paths.iter().find(|(path, _)| path.ends_with(":predict")).unwrap();
    let schema = at(
        predict,
        &["post", "requestBody", "content", "application/json", "schema"],
    );
    assert_eq!(schema["oneOf"], json!([{"required": ["inputs"]}]));
    let value = &schema["properties"]["inputs"]["anyOf"][0];
    assert_eq!(value["maximum"].as_u64(), Some(u64::MAX));
}

#[test]
fn a_column_may_be_flat_or_bare() {
    let column = ModelSignature {
        inputs: vec![TensorSpec::new("x", Datatype::Bool, [-1, 1])],
        optional_inputs: Vec::new(),
        ..signature()
    };
    let document = document(&column, None);
    let paths = document["paths"].as_object().unwrap();
    let (_, predict) = paths.iter().find(|(path, _)| path.ends_with(":predict")).unwrap();
    let schema = at(
        predict,
        &["post", "requestBody", "content", "application/json", "schema"],
    );
    let tensor = &schema["properties"]["inputs"]["anyOf"][0]["anyOf"];
    assert_eq!(tensor.as_array().unwrap().len(), 3);
    assert_eq!(tensor[2], json!({"enum": [true, false, 0, 1]}));
}

#[test]
fn a_classifiers_rows_have_every_class() {
    let classes = ["no".to_owned(), "yes".to_owned()];
    let signature = signature();
    let documented = DocumentedModel {
        signature: &signature,
        version: None,
        classes: Some(&classes),
    };
    let document: Value = serde_json::from_slice(&model("1", &documented)).unwrap();
    let (_, predict) = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(path, _)| path.ends_with(":predict"))
        .unwrap();
    let schema = at(
        predict,
        &[
            "post",
            "responses",
            "200",
            "content",
            "application/json",
            "schema",
        ],
    );
    let row = at(schema, &["properties", "predictions", "items", "properties"]);
    assert_eq!(row["probabilities"]["required"], json!(["no", "yes"]));
}

#[test]
fn the_servers_document_and_page_have_every_model_and_nothing_from_elsewhere() {
    let signature = signature();
    let documented = DocumentedModel {
        signature: &signature,
        version: None,
        classes: None,
    };
    let document: Value = serde_json::from_slice(&server("plumbline", "1", &[documented])).unwrap();
    assert_complete(&document, &document);
    for path in ["/v2", "/v2/health/ready", "/v2/models/a%20churn%2F%3Cb%3E/infer"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let page = String::from_utf8(page("plumbline", "1", &[documented]).to_vec()).unwrap();
    assert!(page.contains("a churn/&lt;b&gt;") && !page.contains("<b>"));
    for elsewhere in ["http:", "https:", "src=", "<script", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}
