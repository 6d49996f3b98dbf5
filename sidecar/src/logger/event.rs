//! CloudEvents 1.0 in HTTP binary mode, with the attributes of KServe's logger.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use plumbline_inference_protocol::{GrpcCode, rest};

use crate::config::LogNames;

/// What an event costs besides the bytes of its body.
const OVERHEAD: usize = 512;

/// Where events come from, for their attributes.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The admin port as others reach it.
    pub(crate) uri: String,
    pub(crate) names: LogNames,
}

/// Which side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// What the head of a request or of an answer says about its body.
#[derive(Clone, Debug)]
pub(super) struct Part {
    at: SystemTime,
    status: Option<StatusCode>,
    content_type: Option<HeaderValue>,
    content_encoding: Option<HeaderValue>,
    json_length: Option<HeaderValue>,
}

/// One event that waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: HeaderValue,
    pub(super) kind: Kind,
    pub(super) model: Arc<str>,
    pub(super) part: Part,
    pub(super) body: Bytes,
    /// How a gRPC call ended; its HTTP status is always 200.
    pub(super) grpc_status: Option<GrpcCode>,
}

impl Part {
    pub(super) fn of(headers: &HeaderMap, status: Option<StatusCode>) -> Self {
        // Copied, as a value may be a slice of the connection's whole read buffer.
        let copy = |name: &HeaderName| {
            let value = headers.get(name)?;
            HeaderValue::from_bytes(value.as_bytes()).ok()
        };
        Self {
            at: SystemTime::now(),
            status,
            content_type: copy(&CONTENT_TYPE),
            content_encoding: copy(&CONTENT_ENCODING),
            json_length: copy(&HeaderName::from_static(rest::HEADER_LENGTH)),
        }
    }

    /// Headers without which the body cannot be read, in the form in which KServe tells headers.
    fn metadata(&self) -> String {
        let named = [
            ("Content-Encoding", &self.content_encoding),
            ("Inference-Header-Content-Length", &self.json_length),
        ];
        let told: serde_json::Map<String, serde_json::Value> = named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), vec![value.as_ref()?.to_str().ok()?].into())))
            .collect();
        serde_json::Value::from(told).to_string()
    }
}

impl Kind {
    const fn ce_type(self) -> &'static str {
        match self {
            Self::Request => "org.kubeflow.serving.inference.request",
            Self::Response => "org.kubeflow.serving.inference.response",
        }
    }
}

impl Event {
    /// What it costs to keep it.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.body.len()
    }

    /// The request that tells it.
    pub(super) fn request(&self, path: &Uri, source: &Source) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.clone();
        let headers = request.headers_mut();
        let mut text = |name: &'static str, text: &str| {
            // A name with control characters has no header form, and is left out.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        let service = source.names.inference_service.as_deref().unwrap_or(&self.model);
        text("ce-specversion", "1.0");
        text("ce-type", self.kind.ce_type());
        text("ce-source", &source.uri);
        text("ce-subject", &self.model);
        text("ce-time", &rfc3339(self.part.at));
        text("ce-inferenceservicename", service);
        text(
            "ce-namespace",
            source.names.namespace.as_deref().unwrap_or_default(),
        );
        text("ce-component", &source.names.component);
        text("ce-endpoint", &source.names.endpoint);
        text("ce-metadata", &self.part.metadata());
        if let Some(status) = self.part.status {
            text("ce-statuscode", status.as_str());
        }
        if let Some(code) = self.grpc_status {
            text("ce-grpcstatus", code.as_str());
        }
        headers.insert("ce-id", self.id.clone());
        if let Some(value) = &self.part.content_type {
            headers.insert(CONTENT_TYPE, value.clone());
        }
        request
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            uri: "http://pod:9902".to_owned(),
            names: LogNames {
                namespace: Some("models".to_owned()),
                ..LogNames::default()
            },
        }
    }

    #[test]
    fn an_event_carries_what_it_takes_to_read_its_body() {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            (
                HeaderName::from_static(rest::HEADER_LENGTH),
                HeaderValue::from_static("42"),
            ),
        ]);
        let event = Event {
            id: HeaderValue::from_static("order-17"),
            kind: Kind::Response,
            model: "churn".into(),
            part: Part::of(&headers, Some(StatusCode::TOO_MANY_REQUESTS)),
            body: Bytes::from_static(b"abc"),
            grpc_status: Some(GrpcCode::ResourceExhausted),
        };
        assert_eq!(event.bytes(), OVERHEAD + 3);
        let request = event.request(&Uri::from_static("/log?key=1"), &source());
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::POST, "/log?key=1")
        );
        let header = |name: &str| request.headers()[name].to_str().expect("text");
        assert_eq!(header("ce-specversion"), "1.0");
        assert_eq!(header("ce-type"), "org.kubeflow.serving.inference.response");
        assert_eq!(
            [header("ce-id"), header("ce-source")],
            ["order-17", "http://pod:9902"]
        );
        assert_eq!(
            [header("ce-inferenceservicename"), header("ce-namespace")],
            ["churn", "models"]
        );
        assert_eq!(
            [header("ce-component"), header("ce-endpoint")],
            ["predictor", "default"]
        );
        assert_eq!([header("ce-statuscode"), header("ce-grpcstatus")], ["429", "8"]);
        assert_eq!(header("content-type"), "application/octet-stream");
        assert_eq!(
            header("ce-metadata"),
            r#"{"Content-Encoding":["gzip"],"Inference-Header-Content-Length":["42"]}"#
        );
        assert!(
            !request.headers().contains_key(CONTENT_ENCODING),
            "a sink that undoes it would hand on what the content type does not say"
        );
    }
}
