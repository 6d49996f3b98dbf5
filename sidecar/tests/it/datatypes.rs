//! Every datatype of the protocol, on every way that it can be sent.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use plumbline_drift::profile::{Datatype as ProfileDatatype, Kind};
use plumbline_drift::{Profile, SubjectBuilder};
use plumbline_inference_protocol::grpc::{self, Contents, Method};
use plumbline_inference_protocol::{
    Datatype, InferRequest, InferResponse, ModelRef, NanPolicy, RequestedOutputs, StringData, Tensor,
    TensorData, rest,
};
use plumbline_sidecar::NamedProfile;
use plumbline_testkit::predictor::{FakePredictor, Reply};

use crate::harness::{TestSidecar, exposition, h1, h2, post};
use crate::model::{INFER, profile};

/// Three values, of which the first and the last are equal where there are only two.
fn values(datatype: Datatype) -> TensorData {
    let bytes: Vec<u8> = match datatype {
        Datatype::Bytes => {
            let texts: StringData = ["1", "2", "3"].into_iter().collect();
            return TensorData::from_strings(texts);
        }
        Datatype::Bool => vec![1, 0, 1],
        Datatype::Uint8 | Datatype::Int8 => vec![1, 2, 3],
        Datatype::Uint16 | Datatype::Int16 => [1_u16, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Uint32 | Datatype::Int32 => [1_u32, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Uint64 | Datatype::Int64 => [1_u64, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Fp16 => [0x3c00_u16, 0x4000, 0x4200]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Datatype::Bf16 => [0x3f80_u16, 0x4000, 0x4040]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Datatype::Fp32 => [1.0_f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Fp64 => [1.0_f64, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    TensorData::from_le_bytes(datatype, bytes.into()).expect("whole values")
}

/// A profile of one feature.
fn profile_of(kind: Kind, classes: [&str; 3]) -> Profile {
    let mut feature = SubjectBuilder::new("x", "x", 0, ProfileDatatype::Fp64, kind);
    for row in 0..2_000 {
        match kind {
            Kind::Boolean => feature.push_boolean(row % 2 == 0),
            Kind::Categorical => feature.push_text(classes[row % 3]),
            Kind::Numeric | Kind::TextLength => feature.push_number((row % 3 + 1) as f64),
        }
    }
    let mut profile = profile();
    profile.features = vec![feature.finish()];
    profile.validate().expect("a valid profile");
    profile
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Json,
    Binary,
    Raw,
    Typed,
}

fn request(way: Way, data: &TensorData) -> Option<Request<Full<Bytes>>> {
    let input = Tensor::new("x", [3, 1], data.clone()).expect("a tensor");
    let request = InferRequest {
        inputs: vec![input],
        ..InferRequest::default()
    };
    Some(match way {
        Way::Json | Way::Binary => {
            let encoding = match way {
                Way::Json => rest::Encoding::Json,
                _ => rest::Encoding::Binary,
            };
            let encoded = rest::encode_request(&request, encoding).ok()?;
            let mut post = post(INFER, encoded.content_type(), encoded.body.clone());
            if let Some(length) = encoded.json_len {
                post.headers_mut().insert(rest::HEADER_LENGTH, length.into());
            }
            post
        }
        Way::Raw | Way::Typed => {
            let contents = match way {
                Way::Raw => Contents::Raw,
                _ => Contents::Typed,
            };
            let message = grpc::request_to_proto(&ModelRef::new("churn"), &request, contents).ok()?;
            let mut post = post(
                Method::ModelInfer.path(),
                grpc::CONTENT_TYPE,
                grpc::encode_frame(&message),
            );
            post.headers_mut().remove("host");
            post
        }
    })
}

/// A label for each row, in the protocol of the request.
fn answering(way: Way) -> Reply {
    let labels: StringData = ["yes", "no", "yes"].into_iter().collect();
    let label = Tensor::new("output_label", [3], TensorData::from_strings(labels)).expect("a tensor");
    let response = InferResponse {
        model_name: "churn".to_owned(),
        outputs: vec![label],
        ..InferResponse::default()
    };
    match way {
        Way::Json | Way::Binary => {
            let encoded = rest::encode_response(&response, &RequestedOutputs::default(), NanPolicy::Null);
            Reply::json(encoded.expect("encoded").body)
        }
        Way::Raw | Way::Typed => {
            let message = grpc::response_to_proto(&response, Contents::Raw).expect("encoded");
            Reply::grpc(&prost::Message::encode_to_vec(&message))
        }
    }
}

/// Sends `data` on every way; the counts of the feature's bins that are not 0, each divided by the number of ways.
async fn counted(kind: Kind, classes: [&str; 3], data: &TensorData) -> (usize, Vec<u64>) {
    let predictor = FakePredictor::answering(|_| Reply::json("{}")).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        config.profiles = vec![NamedProfile {
            model: "churn".to_owned(),
            profile: profile_of(kind, classes),
        }];
    })
    .await;
    let mut sent = 0;
    for way in [Way::Json, Way::Binary, Way::Raw, Way::Typed] {
        let Some(request) = request(way, data) else {
            continue;
        };
        predictor.script(move |_| answering(way));
        match way {
            Way::Json | Way::Binary => h1(sidecar.address, request).await,
            Way::Raw | Way::Typed => h2(sidecar.address, request).await,
        };
        sent += 1;
    }
    sidecar.settled(sent).await;
    let mut counts: Vec<u64> = exposition(&sidecar.process)
        .lines()
        .filter(|line| line.starts_with("plumbline_feature_bin_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .filter(|count| *count > 0)
        .collect();
    counts.sort_unstable();
    assert!(
        counts.iter().all(|count| count % sent == 0),
        "the ways differ: {counts:?}"
    );
    (sent as usize, counts.iter().map(|count| count / sent).collect())
}

#[tokio::test]
async fn every_datatype_is_observed_to_the_same_counts_on_every_way() {
    for datatype in Datatype::ALL {
        let (kind, expected) = match datatype {
            Datatype::Bool => (Kind::Boolean, vec![1, 2]),
            Datatype::Bytes => (Kind::Categorical, vec![1, 1, 1]),
            _ => (Kind::Numeric, vec![1, 1, 1]),
        };
        let (ways, counts) = counted(kind, ["1", "2", "3"], &values(datatype)).await;
        // The half-precision floats have no typed field.
        let least = if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
            2
        } else {
            4
        };
        assert!(ways >= least, "{datatype:?} went {ways} ways");
        assert_eq!(counts, expected, "{datatype:?}");
    }
}

#[tokio::test]
async fn integers_beyond_the_exact_ones_of_a_float_are_kept_apart() {
    let classes = ["9007199254740992", "9007199254740993", "9007199254740995"];
    let numbers = [
        9_007_199_254_740_992_u64,
        9_007_199_254_740_993,
        9_007_199_254_740_995,
    ];
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    for datatype in [Datatype::Int64, Datatype::Uint64] {
        let data = TensorData::from_le_bytes(datatype, bytes.clone().into()).expect("whole values");
        let (ways, counts) = counted(Kind::Categorical, classes, &data).await;
        assert_eq!((ways, counts), (4, vec![1, 1, 1]), "{datatype:?}");
    }
}
