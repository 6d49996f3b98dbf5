//! How often a request and its reply ask for memory: a fixed number of times, however many values they carry.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use plumbline_inference_protocol::{
    Datatype, InferResponse, ModelSignature, NanPolicy, RequestedOutputs, Tensor, TensorData, TensorSpec,
    rest,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: every call is the system allocator's; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

#[test]
fn a_request_of_any_size_allocates_what_one_row_does() {
    let signature = ModelSignature {
        model: "gb".to_owned(),
        inputs: vec![TensorSpec::new("x", Datatype::Fp32, [-1, 20])],
        ..ModelSignature::default()
    };
    for rows in [1, 32] {
        let values = vec!["-0.40862122"; rows * 20].join(", ");
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "shape": [{rows}, 20], "datatype": "FP32", "data": [{values}]}}]}}"#
        );
        let body = Bytes::from(body);
        let (allocations, request) = count(|| rest::decode_request_for(&signature, &body, None));
        assert_eq!(request.expect("a valid request").inputs[0].len(), rows * 20);
        // Its name, its values and their owner, and the lists that the tensor is in, before and after.
        assert!(allocations <= 5, "{rows} rows: {allocations}");
    }
}

#[test]
fn a_reply_of_any_size_allocates_what_one_row_does() {
    for rows in [1_usize, 32] {
        let label = TensorData::from_vec(vec![1_i64; rows]);
        let probabilities = TensorData::from_vec(vec![0.731_058_6_f32; rows * 2]);
        let response = InferResponse {
            model_name: "gb".to_owned(),
            model_version: Some("1".to_owned()),
            outputs: vec![
                Tensor::new("label", [rows as i64], label).expect("a shape that fits"),
                Tensor::new("probabilities", [rows as i64, 2], probabilities).expect("a shape that fits"),
            ],
            ..InferResponse::default()
        };
        let requested = RequestedOutputs::default();
        let (allocations, body) = count(|| rest::encode_response(&response, &requested, NanPolicy::Null));
        assert!(body.expect("finite values").json_len.is_none());
        // The text, and its owner.
        assert!(allocations <= 2, "{rows} rows: {allocations}");
    }
}
