use bytes::Bytes;

use super::*;
use crate::{
    Datatype, InferResponse, ModelSignature, NanPolicy, ParameterValue, ProtocolError, RequestedOutputs,
    Tensor, TensorData, TensorSpec,
};

/// The vector of the protocol notes: 215 bytes of JSON, 18 of data.
const VECTOR_JSON: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},{"name":"s","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}}],"parameters":{"binary_data_output":true}}"#;
const VECTOR_DATA: &[u8] = b"\x00\x00\x80\x3f\x00\x00\x20\xc0\x02\x00\x00\x00ab\x00\x00\x00\x00";

fn vector() -> Bytes {
    [VECTOR_JSON.as_bytes(), VECTOR_DATA].concat().into()
}

/// A request of one input.
fn input(members: &str) -> Bytes {
    format!("{{\"inputs\":[{{{members}}}]}}").into()
}

fn data(datatype: &str, shape: &str, data: &str) -> Result<TensorData, ProtocolError> {
    let body = input(&format!(
        r#""name":"x","shape":{shape},"datatype":"{datatype}","data":{data}"#
    ));
    decode_request(&body, None).map(|request| request.inputs[0].data().clone())
}

fn refused(datatype: &str, shape: &str, values: &str) -> String {
    data(datatype, shape, values).unwrap_err().to_string()
}

fn error(body: impl Into<Bytes>, header: Option<&str>) -> ProtocolError {
    decode_request(&body.into(), header.map(str::as_bytes)).unwrap_err()
}

#[test]
fn the_binary_vector_is_read_in_place() {
    assert_eq!((VECTOR_JSON.len(), VECTOR_DATA.len()), (215, 18));
    let body = vector();
    let request = decode_request(&body, Some(b"215")).unwrap();
    assert_eq!(request.outputs.binary_data_output, Some(true));
    assert!(request.parameters.is_empty());
    let x = request.input("x").unwrap();
    assert_eq!(x.data().iter_f64().unwrap().collect::<Vec<_>>(), [1.0, -2.5]);
    assert!(x.parameters.is_empty());
    let bytes = x.data().as_le_bytes().unwrap();
    assert!(
        std::ptr::eq(bytes.as_ptr(), &raw const body[215]),
        "a slice of the body, not a copy"
    );
    let s = request.input("s").unwrap();
    assert_eq!(
        s.data().as_strings().unwrap().iter().collect::<Vec<_>>(),
        [&b"ab"[..], b""]
    );
}

#[test]
fn header_lengths_outside_of_the_body_are_refused() {
    for header in [
        "-1",
        "+215",
        "234",
        "x",
        "",
        " 215",
        "99999999999999999999999",
        "215.0",
    ] {
        let error = error(vector(), Some(header));
        assert_eq!(error.code(), "invalid_header_length", "{header}");
        assert!(error.to_string().contains("from 0 to 233"), "{error}");
    }
}

#[test]
fn binary_sizes_must_add_up() {
    let mut long = vector().to_vec();
    long.push(0);
    let error_of = |body: Vec<u8>| error(body, Some("215"));
    assert!(
        error_of(long)
            .to_string()
            .starts_with("unexpected additional input data: ")
    );
    let short = vector()[..232].to_vec();
    assert_eq!(
        error_of(short).to_string(),
        "input `s`: expected 10 bytes of binary data, got 9 before the end of the body"
    );
    let wrong = VECTOR_JSON.replace("\"shape\":[1,2]", "\"shape\":[1,3]");
    let body = [wrong.as_bytes(), VECTOR_DATA].concat();
    assert_eq!(
        error_of(body).to_string(),
        "input `x`: expected 12 bytes for datatype FP32 and shape [1, 3], got 8"
    );
    let wrong = VECTOR_JSON.replace("\"shape\":[2]", "\"shape\":[3]");
    let body = [wrong.as_bytes(), VECTOR_DATA].concat();
    assert_eq!(
        error_of(body).to_string(),
        "input `s`: expected 3 values for shape [3], got 2"
    );
    let mut lengths = vector().to_vec();
    lengths[223] = 3;
    assert_eq!(error_of(lengths).code(), "invalid_bytes_lengths");
}

#[test]
fn binary_data_needs_the_header_and_excludes_json_data() {
    let one = r#""name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#;
    assert_eq!(
        error(input(one), None).to_string(),
        "input `x`: binary_data_size needs the header Inference-Header-Content-Length, got none"
    );
    let both = input(&format!("{one},\"data\":[1]"));
    let len = both.len().to_string();
    let error_both = error([&both[..], &[0; 4]].concat(), Some(&len));
    assert_eq!(
        error_both.to_string(),
        "input `x`: expected one of data and binary_data_size, got both"
    );
    for size in ["-4", "4.0", "true", "\"4\""] {
        let body = input(&one.replace(":4}", &format!(":{size}}}")));
        assert_eq!(error(body, None).code(), "invalid_field", "{size}");
    }
    let huge = input(&one.replace(":4}", ":18446744073709551615}"));
    let len = huge.len().to_string();
    assert_eq!(error(huge, Some(&len)).code(), "binary_data_too_short");
    let neither = input(r#""name":"x","shape":[1],"datatype":"FP32""#);
    assert_eq!(
        error(neither, None).to_string(),
        "input `x`: expected values for shape [1], got none"
    );
}

#[test]
fn raw_bool_bytes_are_zero_or_one() {
    let json =
        r#"{"inputs":[{"name":"b","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}"#;
    let body = |data: &[u8]| Bytes::from([json.as_bytes(), data].concat());
    let len = json.len().to_string();
    let request = decode_request(&body(&[0, 1]), Some(len.as_bytes())).unwrap();
    assert_eq!(
        request.inputs[0].data().as_slice::<bool>(),
        Some(&[false, true][..])
    );
    let refused = decode_request(&body(&[0, 2]), Some(len.as_bytes())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "input `b`: expected BOOL bytes of 0 or 1, got another"
    );
}

#[test]
fn data_is_flat_or_nested_as_the_shape_says() {
    let expected = TensorData::from_vec(vec![1_i32, 2, 3, 4]);
    for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [ 1 , 2 ] , [ 3 , 4 ] ] "] {
        assert_eq!(data("INT32", "[2,2]", text), Ok(expected.clone()), "{text}");
    }
    assert_eq!(data("INT32", "[2,2,1]", "[[[1],[2]],[[3],[4]]]"), Ok(expected));
    assert_eq!(data("INT32", "[0,2]", "[]").map(|data| data.len()), Ok(0));
    assert_eq!(data("INT32", "[2,0]", "[[],[]]").map(|data| data.len()), Ok(0));
    assert_eq!(data("FP32", "[]", "5"), Ok(TensorData::from_vec(vec![5.0_f32])));
    assert_eq!(data("FP32", "[]", "[5]"), Ok(TensorData::from_vec(vec![5.0_f32])));
}

#[test]
fn ragged_and_miscounted_data_name_input_expected_and_got() {
    assert_eq!(
        refused("INT32", "[2,2]", "[1,2,3]"),
        "input `x`: expected 4 values for shape [2, 2], got 3"
    );
    assert_eq!(
        refused("INT32", "[2,2]", "[1,2,3,4,5]"),
        "input `x`: expected 4 values for shape [2, 2], got 5"
    );
    let ragged = "input `x`: nested arrays must follow shape [2, 2], expected ";
    assert_eq!(
        refused("INT32", "[2,2]", "[[1,2],[3]]"),
        format!("{ragged}2 elements, got 1 element at level 1")
    );
    assert_eq!(
        refused("INT32", "[2,2]", "[[1,2]]"),
        format!("{ragged}2 elements, got 1 element at level 0")
    );
    assert_eq!(
        refused("INT32", "[2,2]", "[[1,2,3],[4]]"),
        format!("{ragged}2 elements, got 3 elements at level 1")
    );
    assert_eq!(
        refused("INT32", "[2,2]", "[[1,2],3]"),
        format!("{ragged}an array, got `3` at level 1")
    );
    assert_eq!(
        refused("INT32", "[2,2]", "[[1,[2]],[3,4]]"),
        format!("{ragged}a value, got an array, `[2]` at level 2")
    );
    assert_eq!(
        refused("INT32", "[2]", "[[1,2]]"),
        "input `x`: value 0: expected an integer from -2147483648 to 2147483647, got `[1,2]`"
    );
    assert_eq!(
        refused("INT32", "[2,2]", "{}"),
        "input `x`: data: expected an array, got `{}`"
    );
}

#[test]
fn shapes_must_be_countable() {
    assert_eq!(
        refused("INT32", "[2,-1]", "[]"),
        "input `x`: shape [2, -1] is invalid, dimension -1 is negative"
    );
    assert!(refused("INT8", "[9223372036854775807,3]", "[]").contains("overflows"));
    assert!(refused("INT8", "[0,9223372036854775807,3]", "[]").contains("overflows"));
    assert_eq!(data("INT8", "[1.5]", "[]").unwrap_err().code(), "invalid_field");
    assert_eq!(data("INT8", "[\"1\"]", "[]").unwrap_err().code(), "invalid_field");
    assert_eq!(data("INT8", "3", "[]").unwrap_err().code(), "invalid_field");
    // Nobody reserves memory for a shape alone.
    assert_eq!(
        refused("INT8", "[1000000000000]", "[1]"),
        "input `x`: expected 1000000000000 values for shape [1000000000000], got 1"
    );
}

#[test]
fn values_outside_of_the_datatype_are_refused_with_their_place() {
    assert_eq!(
        refused("UINT8", "[2]", "[1,256]"),
        "input `x`: value 1: expected an integer from 0 to 255, got `256`"
    );
    assert_eq!(
        refused("UINT8", "[1]", "[1.0]"),
        "input `x`: value 0: expected an integer from 0 to 255, got `1.0`"
    );
    assert_eq!(
        refused("FP32", "[1]", "[1e39]"),
        "input `x`: value 0: expected a number in the range of FP32, got `1e39`"
    );
    assert_eq!(
        refused("FP32", "[1]", "[\"1\"]"),
        "input `x`: value 0: expected a number, got `\"1\"`"
    );
    assert_eq!(
        refused("FP32", "[1]", "[null]"),
        "input `x`: value 0: expected a number, got `null`"
    );
    assert_eq!(
        refused("BYTES", "[1]", "[1]"),
        "input `x`: value 0: expected a string, got `1`"
    );
    assert_eq!(
        refused("BOOL", "[1]", "[2]"),
        "input `x`: value 0: expected true, false, 0 or 1, got `2`"
    );
    assert_eq!(
        data("BOOL", "[4]", "[true,0,1,false]"),
        Ok(TensorData::from_vec(vec![true, false, true, false]))
    );
    assert_eq!(data("FP32", "[1]", "[NaN]").unwrap_err().code(), "malformed_json");
}

#[test]
fn half_precision_has_no_json() {
    for datatype in ["FP16", "BF16"] {
        let told = refused(datatype, "[1]", "[1]");
        assert!(told.contains(datatype) && told.contains("no JSON form"), "{told}");
    }
    assert_eq!(
        refused("FP8", "[1]", "[1]"),
        "input `x`: expected a datatype of the protocol such as FP32, got `FP8`"
    );
}

#[test]
fn data_before_what_it_is_read_by_is_held_to_the_same() {
    let first = |datatype: &str, shape: &str, data: &str| {
        let body = input(&format!(
            r#""data":{data},"name":"x","shape":{shape},"datatype":"{datatype}""#
        ));
        decode_request(&body, None).map(|request| request.inputs[0].data().clone())
    };
    for (datatype, shape, values) in [
        ("FP32", "[2]", "[1.5,-2e-3]"),
        ("INT64", "[2,1]", "[[1],[2]]"),
        ("BYTES", "[3]", r#"["]","[\"]","\\"]"#),
        ("FP32", "[2]", "[1.5,]"),
        ("FP32", "[2]", "[1.5 2]"),
        ("FP32", "[2]", "[01,2]"),
        ("FP32", "[2]", "[1,{\"a\":[2]}]"),
        ("FP32", "[2]", "[1,[2]]"),
        ("FP32", "[2]", "[1}"),
        ("FP32", "[2]", "3"),
        ("FP32", "[2]", "{}"),
        ("BYTES", "[1]", "[\"\\x\"]"),
    ] {
        let (first, last) = (first(datatype, shape, values), data(datatype, shape, values));
        assert_eq!(first.is_ok(), last.is_ok(), "{values}: {first:?}, {last:?}");
        if let (Ok(first), Ok(last)) = (first, last) {
            assert_eq!(first, last, "{values}");
        }
    }
    for unfinished in ["[1", "[[1]", "[\"a", "["] {
        let body = format!(r#"{{"inputs":[{{"data":{unfinished}"#);
        assert!(
            matches!(error(body, None), ProtocolError::Json { .. }),
            "{unfinished}"
        );
    }
}

#[test]
fn members_may_stand_in_any_order() {
    let members = [
        r#""name":"x""#,
        r#""shape":[2]"#,
        r#""datatype":"BYTES""#,
        r#""data":["a","b\n"]"#,
    ];
    let expected = decode_request(&input(&members.join(",")), None).unwrap();
    for rotation in 0..4 {
        let mut rotated = members;
        rotated.rotate_left(rotation);
        assert_eq!(
            decode_request(&input(&rotated.join(",")), None).as_ref(),
            Ok(&expected)
        );
        rotated.reverse();
        assert_eq!(
            decode_request(&input(&rotated.join(",")), None).as_ref(),
            Ok(&expected)
        );
    }
}

#[test]
fn json_is_strict() {
    let good = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}"#;
    assert!(decode_request(&Bytes::from_static(good.as_bytes()), None).is_ok());
    for (bad, code) in [
        (format!("{good}x"), "malformed_json"),
        (format!("{good}{good}"), "malformed_json"),
        (good[..good.len() - 1].to_owned(), "malformed_json"),
        (String::new(), "malformed_json"),
        ("[]".to_owned(), "invalid_field"),
        ("{}".to_owned(), "missing_field"),
        (r#"{"inputs":[]}"#.to_owned(), "invalid_field"),
        (r#"{"inputs":null}"#.to_owned(), "invalid_field"),
        (r#"{"inputs":[1]}"#.to_owned(), "invalid_field"),
        (good.replace(r#""shape":[1],"#, ""), "missing_field"),
        (good.replace(r#""datatype":"INT8","#, ""), "missing_field"),
        (good.replace(r#""name":"x","#, ""), "missing_field"),
        (
            good.replace(r#""data":[1]"#, r#""data":[1],"data":[2]"#),
            "duplicate_field",
        ),
        (
            good.replace(r#"{"inputs""#, r#"{"id":"a","id":"b","inputs""#),
            "duplicate_field",
        ),
        (
            good.replace(r#"{"inputs""#, r#"{"id":1,"inputs""#),
            "invalid_field",
        ),
        (
            good.replace(r#"{"inputs""#, r#"{"parameters":{"a":1,"a":2},"inputs""#),
            "duplicate_field",
        ),
        (
            good.replace(r#"{"inputs""#, r#"{"parameters":{"a":[]},"inputs""#),
            "invalid_field",
        ),
        (
            good.replace(
                r#"{"inputs""#,
                r#"{"parameters":{"binary_data_output":1},"inputs""#,
            ),
            "invalid_field",
        ),
        (
            good.replace(
                r#"{"inputs""#,
                &format!("{{\"y\":{}1{},\"inputs\"", "[".repeat(100), "]".repeat(100)),
            ),
            "json_too_deep",
        ),
    ] {
        assert_eq!(error(bad.clone(), None).code(), code, "{bad}");
    }
    let error = error(&b"{\"inputs\":\xff}"[..], None);
    assert_eq!(
        error.to_string(),
        "malformed JSON at byte 10: expected UTF-8, got other bytes"
    );
}

#[test]
fn a_body_of_many_parameters_is_refused() {
    let many: Vec<String> = (0..300).map(|n| format!("\"p{n}\":{n}")).collect();
    let body = format!("{{\"parameters\":{{{}}},\"inputs\":[]}}", many.join(","));
    assert_eq!(
        error(body, None).to_string(),
        "field `parameters`: expected at most 256 parameters, got more"
    );
}

#[test]
fn parameters_and_outputs_are_read() {
    let body = Bytes::from_static(
        br#"{"id":"7","parameters":{"a":"s","b":-1,"c":18446744073709551615,"d":0.5,"e":true,"binary_data_output":false},
        "inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":{"k":1}}],
        "outputs":[{"name":"p","parameters":{"binary_data":true,"classification":3,"z":1}},{"name":"q"}],"unknown":{}}"#,
    );
    let request = decode_request(&body, None).unwrap();
    assert_eq!(request.id.as_deref(), Some("7"));
    let parameters: Vec<_> = request
        .parameters
        .iter()
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(
        parameters,
        [
            ParameterValue::String("s".to_owned()),
            ParameterValue::Int(-1),
            ParameterValue::Uint(u64::MAX),
            ParameterValue::Double(0.5),
            ParameterValue::Bool(true),
        ]
    );
    assert_eq!(
        request.inputs[0].parameters.get("k"),
        Some(&ParameterValue::Int(1))
    );
    assert_eq!(request.outputs.binary_data_output, Some(false));
    let p = request.outputs.get("p").unwrap();
    assert_eq!(
        (p.binary_data, p.classification, p.parameters.len()),
        (Some(true), Some(3), 1)
    );
    assert!(request.outputs.wants_binary("p") && !request.outputs.wants_binary("q"));
    assert!(request.outputs.wants("q") && !request.outputs.wants("r"));
    let wrong = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}],"outputs":[{"name":"p","parameters":{"classification":-1}}]}"#;
    assert_eq!(
        error(wrong, None).to_string(),
        "field `outputs.p.parameters.classification`: expected a number of classes, got `-1`"
    );
}

#[test]
fn nulls_stand_for_absent_optional_members() {
    let body = Bytes::from_static(
        br#"{"id":null,"parameters":null,"outputs":null,
        "inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":null}]}"#,
    );
    let request = decode_request(&body, None).unwrap();
    assert_eq!((request.id, request.outputs), (None, RequestedOutputs::default()));
}

fn signature(datatype: Datatype, shape: &[i64]) -> ModelSignature {
    ModelSignature {
        model: "m".to_owned(),
        inputs: vec![TensorSpec::new("x", datatype, shape)],
        outputs: vec![TensorSpec::new("y", Datatype::Fp32, [-1])],
        ..ModelSignature::default()
    }
}

#[test]
fn a_model_without_inputs_needs_none() {
    let none = ModelSignature::default();
    for body in ["{}", r#"{"inputs": []}"#, r#"{"id": "7"}"#] {
        let body = Bytes::from_static(body.as_bytes());
        assert_eq!(
            decode_request_for(&none, &body, None).map(|request| request.inputs),
            Ok(Vec::new())
        );
        assert!(decode_request_for(&signature(Datatype::Fp32, &[-1]), &body, None).is_err());
        assert!(decode_request(&body, None).is_err());
    }
}

#[test]
fn a_part_of_a_sequence_is_encoded_as_the_whole_was_asked_for() {
    let body = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[0],"data":[]}],"outputs":[{"name":"p","parameters":{"binary_data":true}}]}"#;
    let wanted = decode_request(&Bytes::from_static(body), None).unwrap().outputs;
    assert!(wanted.wants_binary("p") && wanted.wants_binary("p_10"));
    assert!(!wanted.wants_binary("p_") && !wanted.wants_binary("p_x") && !wanted.wants_binary("q_1"));
}

#[test]
fn a_raw_binary_body_takes_the_models_shape() {
    let floats = Bytes::from_owner([0_u8; 32]);
    for (shape, expected) in [
        (&[-1, 4][..], "[2, 4]"),
        (&[2, -1], "[2, 4]"),
        (&[-1, -1], "[1, 8]"),
        (&[8], "[8]"),
        (&[-1], "[8]"),
        (&[-1, 2, -1], "[1, 2, 4]"),
    ] {
        let signature = signature(Datatype::Fp32, shape);
        let request = decode_request_for(&signature, &floats, Some(b"0")).unwrap();
        assert_eq!(request.inputs[0].shape().to_string(), expected);
        assert_eq!(request.outputs.binary_data_output, Some(true));
    }
    for shape in [&[-1, 3][..], &[7], &[2, -1, -1], &[-1, 0], &[]] {
        let refused = decode_request_for(&signature(Datatype::Fp32, shape), &floats, Some(b"0")).unwrap_err();
        assert_eq!(refused.code(), "invalid_raw_binary", "{shape:?}");
    }
    let odd =
        decode_request_for(&signature(Datatype::Fp32, &[-1]), &floats.slice(1..), Some(b"0")).unwrap_err();
    assert_eq!(
        odd.to_string(),
        "model `m`: a raw binary request needs a body that fills the input's shape, got 31 bytes for FP32 shape [-1]"
    );
    let text = Bytes::from_static(b"hello");
    for shape in [&[1][..], &[-1], &[-1, 1]] {
        let request = decode_request_for(&signature(Datatype::Bytes, shape), &text, Some(b"0")).unwrap();
        assert_eq!(
            request.inputs[0].data().as_strings().unwrap().get(0),
            Some(&b"hello"[..])
        );
    }
    assert!(decode_request_for(&signature(Datatype::Bytes, &[2]), &text, Some(b"0")).is_err());
    let mut two = signature(Datatype::Fp32, &[-1]);
    two.inputs.push(TensorSpec::new("z", Datatype::Fp32, [-1]));
    assert!(
        decode_request_for(&two, &floats, Some(b"0"))
            .unwrap_err()
            .to_string()
            .contains("exactly one input")
    );
    assert_eq!(
        decode_request(&floats, Some(b"0")),
        Err(ProtocolError::RawBinaryWithoutSignature)
    );
}

#[test]
fn errors_for_a_model_name_it() {
    let signature = signature(Datatype::Fp32, &[-1, 2]);
    let told = |body: &str| {
        decode_request_for(&signature, &Bytes::copy_from_slice(body.as_bytes()), None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        told(r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1]}]}"#),
        "model `m`: input `x`: expected 2 values for shape [1, 2], got 1"
    );
    assert_eq!(
        told(r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#),
        "model `m`: input `x`: expected shape [-1, 2], got [1, 3]"
    );
    assert_eq!(told("{}"), "model `m`: field `inputs` is missing");
}

fn response() -> InferResponse {
    let p = TensorData::from_vec(vec![0.25_f32, f32::NAN, f32::NEG_INFINITY]);
    InferResponse {
        model_name: "churn".to_owned(),
        model_version: Some("1".to_owned()),
        id: None,
        outputs: vec![
            Tensor::new("p", [3], p).unwrap(),
            Tensor::new(
                "label",
                [2],
                TensorData::from_strings(["a\"", "b"].into_iter().collect()),
            )
            .unwrap(),
        ],
        ..InferResponse::default()
    }
}

#[test]
fn a_json_response_is_plain_json() {
    let body = encode_response(&response(), &RequestedOutputs::default(), NanPolicy::Null).unwrap();
    assert_eq!(body.content_type(), "application/json");
    assert_eq!(
        std::str::from_utf8(&body.body).unwrap(),
        concat!(
            r#"{"model_name":"churn","model_version":"1","outputs":["#,
            r#"{"name":"p","datatype":"FP32","shape":[3],"data":[0.25,null,null]},"#,
            r#"{"name":"label","datatype":"BYTES","shape":[2],"data":["a\"","b"]}]}"#
        )
    );
    let literal = encode_response(&response(), &RequestedOutputs::default(), NanPolicy::Literal).unwrap();
    assert!(
        std::str::from_utf8(&literal.body)
            .unwrap()
            .contains("[0.25,NaN,-Infinity]")
    );
    let back = decode_response(&literal.body, None).unwrap();
    assert_eq!(
        back.outputs[0].data().as_slice::<f32>().unwrap()[2],
        f32::NEG_INFINITY
    );
    let refused = encode_response(&response(), &RequestedOutputs::default(), NanPolicy::Error).unwrap_err();
    assert_eq!(
        refused,
        ProtocolError::NotFinite {
            tensor: TensorLabel::new(Role::Output, "p"),
            index: 1
        }
    );
}

#[test]
fn a_response_is_binary_where_asked() {
    let requested = RequestedOutputs {
        binary_data_output: Some(true),
        list: vec![crate::RequestedOutput {
            name: "label".to_owned(),
            binary_data: Some(false),
            ..Default::default()
        }],
    };
    let body = encode_response(&response(), &requested, NanPolicy::Null).unwrap();
    assert_eq!(body.content_type(), "application/octet-stream");
    let json_len = body.json_len.unwrap();
    assert_eq!(body.body.len(), json_len + 12);
    let json = std::str::from_utf8(&body.body[..json_len]).unwrap();
    assert!(
        json.contains(r#""parameters":{"binary_data_size":12}"#) && json.contains(r#""data":["a\"","b"]"#),
        "{json}"
    );
    let back = decode_response(&body.body, Some(json_len.to_string().as_bytes())).unwrap();
    assert_eq!(back.outputs[1], response().outputs[1]);
    assert_eq!(
        back.outputs[0].data().as_le_bytes(),
        response().outputs[0].data().as_le_bytes()
    );
}

#[test]
fn answers_of_other_servers_are_read() {
    // Explicit nulls, nested parameters, bare NaN.
    let body = Bytes::from_static(
        br#"{"model_name":"m","model_version":null,"id":"x","parameters":{"headers":{"a":["b"]},"k":1},"error":null,
        "outputs":[{"name":"p","shape":[1,2],"datatype":"FP64","parameters":null,"data":[[NaN,1]]}]}"#,
    );
    let response = decode_response(&body, None).unwrap();
    assert_eq!((response.model_version, response.parameters.len()), (None, 1));
    assert!(response.outputs[0].data().f64_at(0).unwrap().is_nan());
}

#[test]
fn requests_to_other_servers_are_read() {
    let body = input(
        r#""name":"x","shape":[3],"datatype":"FP32","data":[NaN,null,-Infinity],"parameters":{"a":[]}"#,
    );
    assert!(decode_request(&body, None).is_err());
    let request = observe_request(&body, None).unwrap();
    let values: Vec<f64> = request.inputs[0].data().iter_f64().unwrap().collect();
    assert!(values[0].is_nan() && values[1].is_nan() && values[2] == f64::NEG_INFINITY);
}

#[test]
fn outputs_without_a_json_form_are_refused() {
    let half = TensorData::from_le_bytes(Datatype::Fp16, Bytes::from_static(&[0, 0x3c])).unwrap();
    let mut response = response();
    response.outputs = vec![Tensor::new("h", [1], half).unwrap()];
    let json = encode_response(&response, &RequestedOutputs::default(), NanPolicy::Null);
    assert_eq!(json.unwrap_err().code(), "datatype_needs_raw");
    let binary = RequestedOutputs {
        binary_data_output: Some(true),
        list: Vec::new(),
    };
    assert!(encode_response(&response, &binary, NanPolicy::Null).is_ok());
    let bytes = TensorData::from_strings([&b"\xff"[..]].into_iter().collect());
    response.outputs = vec![Tensor::new("s", [1], bytes).unwrap()];
    let json = encode_response(&response, &RequestedOutputs::default(), NanPolicy::Null);
    assert_eq!(
        json.unwrap_err().to_string(),
        "output `s`: value 0: expected UTF-8, as JSON has no other bytes: ask for binary data, or over gRPC, got other bytes"
    );
}
