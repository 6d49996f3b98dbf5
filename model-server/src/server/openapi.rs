//! `OpenAPI` documents, made from the signatures of what is served when somebody asks.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use plumbline_inference_protocol::openapi::{self, DocumentedModel};
use plumbline_inference_protocol::{ModelRef, ProtocolError};

use super::State;
use super::reply::{self, WholeReply};
use crate::model::Model;
use crate::repository::Served;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The document of one model.
///
/// # Errors
/// As [`crate::repository::Repository::find`].
pub(super) fn model(state: &State, reference: &ModelRef) -> Result<WholeReply, ProtocolError> {
    let served = state.repository.find(reference)?;
    let documented = DocumentedModel {
        version: reference.version.as_deref(),
        ..documented(&served.model)
    };
    Ok(reply::json(StatusCode::OK, openapi::model(VERSION, &documented)))
}

/// The document of the server with every model that is served.
pub(super) fn server(state: &State) -> WholeReply {
    let document = all(state, |models| {
        openapi::server(&state.server_name, VERSION, models)
    });
    reply::json(StatusCode::OK, document)
}

/// The same for people.
pub(super) fn page(state: &State) -> WholeReply {
    let page = all(state, |models| openapi::page(&state.server_name, VERSION, models));
    let mut reply = reply::json(StatusCode::OK, page);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, html);
    reply
}

fn all(state: &State, document: impl FnOnce(&[DocumentedModel<'_>]) -> Bytes) -> Bytes {
    let names = state.repository.names();
    let found = names
        .iter()
        .map(|name| state.repository.find(&ModelRef::new(name)));
    let served: Vec<Served> = found.flatten().collect(); // one may have been unloaded since
    let models: Vec<_> = served.iter().map(|served| documented(&served.model)).collect();
    document(&models)
}

fn documented(model: &Model) -> DocumentedModel<'_> {
    let classes = model
        .classifier
        .as_ref()
        .map(|classifier| classifier.classes.as_slice());
    DocumentedModel {
        signature: &model.signature,
        version: None,
        classes,
    }
}
