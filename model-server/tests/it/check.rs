//! `check`: what a file is, and whether it serves, without a server.

use plumbline_model_server::{Library, check};

use crate::models::{self, Labels};
use crate::support::{models as directory, onnxruntime};

#[test]
fn a_servable_file_is_described_as_it_is_served() {
    let files = directory(&[("churn.onnx", models::classifier(&Labels::Strings))]);
    let library = Library::open(onnxruntime().as_deref()).expect("run `make setup` first");
    let report = check(&files.path().join("churn.onnx"), Some(&library));
    assert!(report.is_servable(), "{report:?}");
    assert_eq!(
        (report.producer.as_str(), report.ir_version),
        ("plumbline-tests 1.0", 8)
    );
    assert_eq!(
        (report.opsets[0].domain.as_str(), report.opsets[0].version),
        ("ai.onnx", 15)
    );
    assert_eq!(report.zip_maps_removed, ["output_probability"]);
    let probability = &report.outputs[1];
    assert_eq!(
        (probability.datatype.as_str(), probability.shape.as_slice()),
        ("FP32", &[-1, 2][..])
    );
    assert_eq!(
        probability.class_labels.as_deref(),
        Some(&["no".to_owned(), "yes".to_owned()][..])
    );
    assert_eq!(report.onnxruntime.as_deref(), Some(library.version()));
    assert!(report.one_row.is_some());
    let unasked = check(&files.path().join("churn.onnx"), None);
    assert_eq!(
        (&unasked.inputs, &unasked.outputs),
        (&report.inputs, &report.outputs)
    );
    assert!(unasked.is_servable() && unasked.remarks.len() == 1, "{unasked:?}");
}

#[test]
fn why_a_file_does_not_serve_is_told() {
    let files = directory(&[
        ("sequence.onnx", models::sequence_input()),
        ("text.onnx", b"text".to_vec()),
    ]);
    for (file, problem) in [
        ("sequence.onnx", "input `parts` is seq(tensor(float))"),
        ("text.onnx", "not an ONNX model"),
        ("missing.onnx", "cannot be read"),
    ] {
        let report = check(&files.path().join(file), None);
        assert!(
            !report.is_servable() && report.problems[0].contains(problem),
            "{report:?}"
        );
    }
}
