use bytes::Bytes;

use super::*;
use crate::{Datatype, ModelSignature, NanPolicy, ProtocolError, TensorData, TensorSpec};

fn signature(inputs: &[(&str, Datatype, &[i64])]) -> ModelSignature {
    let inputs = inputs
        .iter()
        .map(|&(name, datatype, shape)| TensorSpec::new(name, datatype, shape));
    ModelSignature {
        model: "m".to_owned(),
        inputs: inputs.collect(),
        ..ModelSignature::default()
    }
}

fn one() -> ModelSignature {
    signature(&[("x", Datatype::Fp32, &[-1, 2])])
}

/// As tabular pipelines are: a column per input.
fn table() -> ModelSignature {
    signature(&[
        ("contract", Datatype::Bytes, &[-1, 1]),
        ("tenure", Datatype::Int64, &[-1, 1]),
    ])
}

fn read(signature: &ModelSignature, body: &str) -> Result<V1Request, ProtocolError> {
    decode_request(signature, &Bytes::copy_from_slice(body.as_bytes()))
}

fn refused(signature: &ModelSignature, body: &str) -> String {
    read(signature, body).unwrap_err().to_string()
}

/// Name, shape and values, for comparison.
fn told(tensor: &Tensor) -> String {
    let values: Vec<String> = match (tensor.data().iter_f64(), tensor.data().as_strings()) {
        (Some(numbers), _) => numbers.map(|value| value.to_string()).collect(),
        (None, strings) => strings
            .unwrap()
            .iter()
            .map(|value| format!("'{}'", value.escape_ascii()))
            .collect(),
    };
    format!(
        "{} {} {}: {}",
        tensor.name(),
        tensor.datatype(),
        tensor.shape(),
        values.join(" ")
    )
}

fn all_told(tensors: &[Tensor]) -> Vec<String> {
    tensors.iter().map(told).collect()
}

#[test]
fn rows_of_one_input_are_values() {
    for body in [
        r#"{"instances":[[1,2],[3,4]]}"#,
        r#"{"signature_name":"serving_default","instances":[{"x":[1,2]},{"x":[3,4]}]}"#,
        r#"{"inputs":[[1,2],[3,4]]}"#,
        r#"{"inputs":{"x":[[1,2],[3,4]]}}"#,
    ] {
        let request = read(&one(), body).unwrap();
        assert_eq!(all_told(&request.inputs), ["x FP32 [2, 2]: 1 2 3 4"], "{body}");
        let form = if body.contains("instances") {
            Form::Rows
        } else {
            Form::Columns
        };
        assert_eq!(request.form, form);
    }
}

#[test]
fn rows_of_a_table_are_objects_or_positions() {
    let expected = [
        "contract BYTES [2, 1]: 'Two year' 'a\\n'",
        "tenure INT64 [2, 1]: 5 7",
    ];
    for body in [
        r#"{"instances":[{"contract":"Two year","tenure":5},{"tenure":7,"contract":"a\n"}]}"#,
        r#"{"instances":[{"contract":["Two year"],"tenure":[5]},{"contract":["a\n"],"tenure":[7]}]}"#,
        r#"{"instances":[["Two year",5],["a\n",7]]}"#,
        r#"{"instances":[{"contract":{"b64":"VHdvIHllYXI="},"tenure":5},{"tenure":7,"contract":"a\n"}]}"#,
        r#"{"inputs":{"contract":["Two year","a\n"],"tenure":[5,7]}}"#,
        r#"{"inputs":{"tenure":[[5],[7]],"contract":[["Two year"],["a\n"]]}}"#,
    ] {
        let request = read(&table(), body).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(all_told(&request.inputs), expected, "{body}");
    }
}

#[test]
fn vectors_scalars_and_variable_rows() {
    let vector = signature(&[("x", Datatype::Int32, &[-1])]);
    assert_eq!(
        all_told(&read(&vector, r#"{"instances":[1,2,3]}"#).unwrap().inputs),
        ["x INT32 [3]: 1 2 3"]
    );
    let variable = signature(&[("x", Datatype::Int32, &[-1, -1, 2])]);
    let request = read(&variable, r#"{"instances":[[[1,2],[3,4]],[[5,6],[7,8]]]}"#).unwrap();
    assert_eq!(request.inputs[0].shape().dimensions(), [2, 2, 2]);
    assert!(
        refused(&variable, r#"{"instances":[[[1,2],[3,4]],[[5,6]]]}"#)
            .contains("expected 2 elements, got 1 element at level 1")
    );
    let empty = read(&variable, r#"{"instances":[[],[]]}"#).unwrap();
    assert_eq!(empty.inputs[0].shape().dimensions(), [2, 0, 2]);
    let text = signature(&[("x", Datatype::Bytes, &[-1])]);
    let request = read(&text, r#"{"instances":[{"b64":"/w=="},"a"]}"#).unwrap();
    assert_eq!(all_told(&request.inputs), ["x BYTES [2]: '\\xff' 'a'"]);
}

#[test]
fn bad_v1_requests_tell_what_was_expected() {
    assert_eq!(
        refused(&one(), "{}"),
        "model `m`: expected exactly one of `instances` and `inputs`, got neither"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[[1,2]],"inputs":[[1,2]]}"#),
        "model `m`: expected exactly one of `instances` and `inputs`, got both"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[[1,2]],"instances":[[1,2]]}"#),
        "model `m`: field `instances` is given twice"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[]}"#),
        "model `m`: field `instances`: expected at least one row, got `[]`"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":{}}"#),
        "model `m`: field `instances`: expected an array, got `{}`"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[[1,2,3]]}"#),
        "model `m`: input `x`: nested arrays must follow shape [-1, 2], expected 2 elements, got 3 elements at level 1"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[[1,"a"]]}"#),
        "model `m`: input `x`: value 1: expected a number, got `\"a\"`"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[1]}"#),
        "model `m`: input `x`: data: expected an array, got `1`"
    );
    assert_eq!(
        refused(&one(), r#"{"instances":[[1,2]]}x"#),
        "model `m`: malformed JSON at byte 21: expected the end of the JSON text, got `x`"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":[{"contract":"a"}]}"#),
        "model `m`: expected 2 inputs, got 1, missing `tenure`"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":[{"contract":"a","tenure":1,"x":1}]}"#),
        "model `m`: unexpected input `x`, expected `contract`, `tenure`"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":[{"contract":"a","contract":"b"}]}"#),
        "model `m`: input `contract` is given twice, expected once"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":[["a",1,2]]}"#),
        "model `m`: field `instances[0]`: expected a value for each input of the model, got 3 for 2"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":["a"]}"#),
        "model `m`: field `instances[0]`: expected an object with a value per input, or an array of them, got `\"a\"`"
    );
    assert_eq!(
        refused(&table(), r#"{"inputs":["a"]}"#),
        "model `m`: field `inputs`: expected an object with a tensor per input, got `[\"a\"]`"
    );
    assert_eq!(
        refused(&table(), r#"{"instances":[{"contract":{"b64":"?"},"tenure":1}]}"#),
        "model `m`: input `contract`: value 0: expected an object with base64 text as its only member `b64`, got `{\"b64\":\"?\"}`"
    );
    let half = signature(&[("x", Datatype::Fp16, &[-1])]);
    assert!(refused(&half, r#"{"instances":[1]}"#).contains("no JSON form"));
}

fn output(name: &str, shape: &[i64], values: Vec<f32>) -> Tensor {
    Tensor::new(name, shape, TensorData::from_vec(values)).unwrap()
}

fn text(bytes: Result<Bytes, ProtocolError>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

#[test]
fn answers_have_the_form_of_the_request() {
    let p = output("p", &[2, 2], vec![0.1, 0.9, 0.5, 0.5]);
    let label = Tensor::new(
        "l",
        [2],
        TensorData::from_strings(["no", "yes"].into_iter().collect()),
    )
    .unwrap();
    let both = [label, p];
    let encode = |outputs: &[Tensor], form| text(encode_response(outputs, form, NanPolicy::Null));
    assert_eq!(
        encode(&both[1..], Form::Rows),
        r#"{"predictions":[[0.1,0.9],[0.5,0.5]]}"#
    );
    assert_eq!(encode(&both[..1], Form::Rows), r#"{"predictions":["no","yes"]}"#);
    assert_eq!(
        encode(&both, Form::Rows),
        r#"{"predictions":[{"l":"no","p":[0.1,0.9]},{"l":"yes","p":[0.5,0.5]}]}"#
    );
    assert_eq!(
        encode(&both[1..], Form::Columns),
        r#"{"outputs":[[0.1,0.9],[0.5,0.5]]}"#
    );
    assert_eq!(
        encode(&both, Form::Columns),
        r#"{"outputs":{"l":["no","yes"],"p":[[0.1,0.9],[0.5,0.5]]}}"#
    );
    let nan = output("p", &[1], vec![f32::NAN]);
    assert_eq!(encode(&[nan], Form::Rows), r#"{"predictions":[null]}"#);
    let uneven = [both[0].clone(), output("q", &[3], vec![0.0; 3])];
    let refused = encode_response(&uneven, Form::Rows, NanPolicy::Null).unwrap_err();
    assert!(
        refused.to_string().contains("output `q`: expected 2 rows"),
        "{refused}"
    );
}

#[test]
fn a_classifier_answers_with_names() {
    let labels = Tensor::new(
        "l",
        [2],
        TensorData::from_strings(["no", "yes"].into_iter().collect()),
    )
    .unwrap();
    let p = output("p", &[2, 2], vec![0.75, 0.25, 0.5, 0.5]);
    let encode = |form| encode_classification(&labels, &[&p], &["no", "y\"s"], form, NanPolicy::Null);
    let rows = encode(Form::Rows);
    assert_eq!(
        text(rows.clone()),
        concat!(
            r#"{"predictions":[{"label":"no","probabilities":{"no":0.75,"y\"s":0.25}},"#,
            r#"{"label":"yes","probabilities":{"no":0.5,"y\"s":0.5}}]}"#
        )
    );
    // An axis too many, as some converters leave it.
    for shape in [[2, 1], [1, 2]] {
        let data = TensorData::from_strings(["no", "yes"].into_iter().collect());
        let labels = Tensor::new("l", shape, data).unwrap();
        let told = encode_classification(&labels, &[&p], &["no", "y\"s"], Form::Rows, NanPolicy::Null);
        assert_eq!(text(told), text(rows.clone()));
    }
    let columns = encode(Form::Columns);
    assert_eq!(
        text(columns.clone()),
        r#"{"outputs":{"label":["no","yes"],"probabilities":[{"no":0.75,"y\"s":0.25},{"no":0.5,"y\"s":0.5}]}}"#
    );
    for body in [rows.clone().unwrap(), columns.unwrap()] {
        let outputs = observe_response(&body).unwrap();
        assert_eq!(
            all_told(&outputs),
            [
                "label BYTES [2]: 'no' 'yes'",
                "probabilities FP64 [2, 2]: 0.75 0.25 0.5 0.5"
            ]
        );
        assert_eq!(
            outputs[1].class_labels(),
            Some(vec!["no".to_owned(), "y\"s".to_owned()])
        );
    }
    assert_eq!(
        encode_classification(&labels, &[&p], &["no"], Form::Rows, NanPolicy::Null),
        Err(ProtocolError::Internal)
    );
    // A column for each class, as `zipmap="columns"` makes them.
    let no = output("no", &[2], vec![0.75, 0.5]);
    let yes = output("yes", &[2, 1], vec![0.25, 0.5]);
    assert_eq!(
        text(encode_classification(
            &labels,
            &[&no, &yes],
            &["no", "y\"s"],
            Form::Rows,
            NanPolicy::Null
        )),
        text(rows)
    );
}

#[test]
fn a_model_without_inputs_is_asked_by_columns() {
    let none = ModelSignature::default();
    let request = read(&none, r#"{"inputs": {}}"#).unwrap();
    assert_eq!((request.inputs, request.form), (Vec::new(), Form::Columns));
    assert!(refused(&none, r#"{"instances": [{}]}"#).contains("`inputs` instead"));
    assert!(refused(&none, r#"{"inputs": {"x": 1}}"#).contains("unexpected input `x`"));
}

#[test]
fn an_optional_input_stands_in_every_row_or_in_none() {
    let signature = ModelSignature {
        optional_inputs: vec![TensorSpec::new("scale", Datatype::Fp32, [-1])],
        ..one()
    };
    let shapes = |body: &str| all_told(&read(&signature, body).unwrap().inputs);
    assert_eq!(shapes(r#"{"instances": [[1, 2]]}"#), ["x FP32 [1, 2]: 1 2"]);
    assert_eq!(
        shapes(r#"{"instances": [{"x": [1, 2]}]}"#),
        ["x FP32 [1, 2]: 1 2"]
    );
    assert_eq!(
        shapes(r#"{"instances": [{"scale": 3, "x": [1, 2]}, {"x": [3, 4], "scale": 5}]}"#),
        ["x FP32 [2, 2]: 1 2 3 4", "scale FP32 [2]: 3 5"]
    );
    assert_eq!(
        shapes(r#"{"inputs": {"x": [[1, 2]], "scale": [3, 4]}}"#),
        ["x FP32 [1, 2]: 1 2", "scale FP32 [2]: 3 4"]
    );
    for body in [
        r#"{"instances": [{"x": [1, 2]}, {"x": [3, 4], "scale": 5}]}"#,
        r#"{"instances": [{"x": [1, 2], "scale": 5}, {"x": [3, 4]}]}"#,
    ] {
        assert!(refused(&signature, body).contains("in every row or in none"));
    }
    assert!(refused(&signature, r#"{"instances": [{"scale": 5}]}"#).contains("missing `x`"));
}

#[test]
fn an_input_of_any_rank_takes_the_rank_of_its_first_value() {
    let signature = ModelSignature {
        inputs: vec![TensorSpec::new("x", Datatype::Int64, [-1]).with_any_rank()],
        ..ModelSignature::default()
    };
    for (body, told) in [
        (r#"{"instances": [1, 2]}"#, "x INT64 [2]: 1 2"),
        (
            r#"{"instances": [[[1, 2]], [[3, 4]]]}"#,
            "x INT64 [2, 1, 2]: 1 2 3 4",
        ),
        (r#"{"inputs": 7}"#, "x INT64 []: 7"),
        (r#"{"inputs": [[7], [8]]}"#, "x INT64 [2, 1]: 7 8"),
        (r#"{"inputs": []}"#, "x INT64 [0]:"),
    ] {
        assert_eq!(
            all_told(&read(&signature, body).unwrap().inputs)[0].trim_end(),
            told
        );
    }
    assert!(refused(&signature, r#"{"instances": [[1, 2], 3]}"#).contains("input `x`"));
}

fn seen(body: &str) -> Vec<String> {
    let request = observe_request(&Bytes::copy_from_slice(body.as_bytes()));
    all_told(&request.unwrap_or_else(|error| panic!("{body}: {error}")).inputs)
}

#[test]
fn without_a_signature_values_are_what_they_look_like() {
    assert_eq!(
        seen(r#"{"instances":[[1,2.5],[3,4]]}"#),
        [" FP64 [2, 2]: 1 2.5 3 4"]
    );
    assert_eq!(seen(r#"{"instances":[1,null,3]}"#), [" FP64 [3]: 1 NaN 3"]);
    assert_eq!(
        seen(r#"{"instances":[null,"a",null]}"#),
        [" BYTES [3]: '' 'a' ''"]
    );
    assert_eq!(seen(r#"{"instances":[true,false]}"#), [" BOOL [2]: 1 0"]);
    assert_eq!(seen(r#"{"instances":[true,2]}"#), [" FP64 [2]: 1 2"]);
    assert_eq!(
        seen(r#"{"instances":["x\u0041",{"b64":"/w=="}]}"#),
        [" BYTES [2]: 'xA' '\\xff'"]
    );
    assert_eq!(seen(r#"{"instances":[]}"#), Vec::<String>::new());
    assert_eq!(
        seen(r#"{"instances":[{"a":1,"b":"x","c":[1,2]},{"b":"y","a":2,"c":[3,4]}]}"#),
        [
            "a FP64 [2]: 1 2",
            "b BYTES [2]: 'x' 'y'",
            "c FP64 [2, 2]: 1 2 3 4"
        ]
    );
    assert_eq!(
        seen(r#"{"instances":[["x",1],["y",2]]}"#),
        ["0 BYTES [2]: 'x' 'y'", "1 FP64 [2]: 1 2"]
    );
    assert_eq!(
        seen(r#"{"instances":[[1,"x",true]]}"#),
        ["0 FP64 [1]: 1", "1 BYTES [1]: 'x'", "2 BOOL [1]: 1"]
    );
    assert_eq!(
        seen(r#"{"inputs":{"a":[[1],[2]],"b":["x","y"],"c":5}}"#),
        ["a FP64 [2, 1]: 1 2", "b BYTES [2]: 'x' 'y'", "c FP64 [1]: 5"]
    );
    assert_eq!(seen(r#"{"inputs":[[[1],[2]]]}"#), [" FP64 [1, 2, 1]: 1 2"]);
    assert_eq!(
        seen(r#"{"instances":[1,"b",2.50]}"#),
        [" BYTES [3]: '1' 'b' '2.50'"]
    );
}

#[test]
fn rows_that_disagree_are_not_observed() {
    for body in [
        r#"{"instances":[[1,2],[3]]}"#,
        r#"{"instances":[[1,2],3]}"#,
        r#"{"instances":[{"a":1},{"b":1}]}"#,
        r#"{"instances":[{"a":1,"b":2},{"b":1}]}"#,
        r#"{"instances":[{"a":1,"a":2}]}"#,
        r#"{"instances":[["x",1],["y"]]}"#,
        r#"{"instances":[["x",1],["y",1,2]]}"#,
        r#"{"inputs":{"a":1,"a":2}}"#,
        r#"{"instances":[1],"inputs":[1]}"#,
        r#"{"predictions":[1]}"#,
        r#"{"instances":[1]}]"#,
    ] {
        let refused = observe_request(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        assert_eq!(refused.http_status(), 400, "{body}");
    }
}

#[test]
fn wide_rows_take_linear_time() {
    // A second name search per member would take minutes.
    let members: Vec<String> = (0..100_000).map(|n| format!("\"c{n}\":{n}")).collect();
    let body = format!("{{\"instances\":[{{{}}}]}}", members.join(","));
    assert_eq!(seen(&body).len(), 100_000);
}

#[test]
fn what_is_written_is_read() {
    let inputs = read(&table(), r#"{"instances":[["Two year",5],["a",7]]}"#)
        .unwrap()
        .inputs;
    for form in [Form::Rows, Form::Columns] {
        let body = encode_request(&inputs, form).unwrap();
        assert_eq!(
            decode_request(&table(), &body).unwrap(),
            V1Request {
                inputs: inputs.clone(),
                form
            }
        );
    }
}
