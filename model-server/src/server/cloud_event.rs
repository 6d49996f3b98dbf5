//! CloudEvents on V1, as KServe takes and gives them: in headers (`ce-*`) or as one JSON object.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use plumbline_inference_protocol::{ProtocolError, grpc, v1};
use plumbline_service::RequestId;

use super::reply::{self, WholeReply};

const STRUCTURED: &str = "application/cloudevents+json";
const SPEC_VERSION: &str = "1.0";
const RESPONSE_TYPE: &str = "io.kserve.inference.response";

/// Attributes without which headers are no event.
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];

/// The form in which a request is an event, and its answer will be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloudEvent {
    /// Attributes in headers, data as the body.
    Binary,
    /// Attributes and data in one object.
    Structured,
}

impl CloudEvent {
    /// The form of a request; `None` for a request that is no event.
    pub(super) fn of(headers: &HeaderMap) -> Option<CloudEvent> {
        if headers.contains_key(REQUIRED[0]) && REQUIRED.iter().all(|name| headers.contains_key(*name)) {
            return Some(CloudEvent::Binary);
        }
        let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
        let kind = content_type.split(|&byte| byte == b';').next()?;
        kind.trim_ascii()
            .eq_ignore_ascii_case(STRUCTURED.as_bytes())
            .then_some(CloudEvent::Structured)
    }

    /// The V1 request in the body.
    pub(super) fn data(self, body: Bytes) -> Result<Bytes, ProtocolError> {
        match self {
            CloudEvent::Binary => Ok(body),
            CloudEvent::Structured => v1::data_of_event(&body),
        }
    }

    /// The answer to the event, `body` being the V1 response.
    pub(super) fn answer(self, model: &str, body: Bytes) -> WholeReply {
        // What a header can carry, and a URI reference as well.
        let source = format!(
            "io.kserve.inference.{}",
            grpc::encode_status_message(model).replace(' ', "%20")
        );
        let (id, time) = (RequestId::random(), jiff::Timestamp::now().to_string());
        match self {
            CloudEvent::Binary => {
                let mut reply = reply::json(http::StatusCode::OK, body);
                let attributes = [SPEC_VERSION, id.as_str(), &source, RESPONSE_TYPE, &time];
                let names = REQUIRED.into_iter().chain(["ce-time"]);
                for (name, value) in names.zip(attributes) {
                    if let Ok(value) = HeaderValue::from_str(value) {
                        reply.headers_mut().insert(HeaderName::from_static(name), value);
                    }
                }
                reply
            }
            CloudEvent::Structured => {
                let attributes = [
                    ("specversion", SPEC_VERSION),
                    ("id", id.as_str()),
                    ("source", &source),
                    ("type", RESPONSE_TYPE),
                    ("time", &time),
                    ("datacontenttype", "application/json"),
                ];
                let mut reply = reply::json(http::StatusCode::OK, v1::event_with_data(&attributes, &body));
                reply
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
                reply
            }
        }
    }
}
