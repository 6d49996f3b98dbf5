//! Bounded reads of the API server.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::time::Instant;

use crate::http::encode;
use crate::text::{one_line, sanitise};

/// Largest object or page of objects.
const MAX_OBJECTS: usize = 8 << 20;
/// Largest log of one container.
const MAX_LOG: usize = 4 << 20;
/// Lines of one log that are asked for. The server cuts off the end at a limit of bytes, so lines are limited first.
const MAX_LINES: u32 = 5_000;
/// Objects of one list.
const PAGE: u32 = 200;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    api: &'static str,
    plural: &'static str,
}

const fn kind(api: &'static str, plural: &'static str) -> Kind {
    Kind { api, plural }
}

pub(super) const PODS: Kind = kind("/api/v1", "pods");
pub(super) const EVENTS: Kind = kind("/api/v1", "events");
pub(super) const NODES: Kind = kind("/api/v1", "nodes");
pub(super) const CLAIMS: Kind = kind("/api/v1", "persistentvolumeclaims");
pub(super) const DEPLOYMENTS: Kind = kind("/apis/apps/v1", "deployments");
pub(super) const REPLICA_SETS: Kind = kind("/apis/apps/v1", "replicasets");
pub(super) const STATEFUL_SETS: Kind = kind("/apis/apps/v1", "statefulsets");
pub(super) const JOBS: Kind = kind("/apis/batch/v1", "jobs");

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the role does not allow to {verb} {resource}{}", within(namespace.as_ref()))]
    Forbidden {
        verb: &'static str,
        resource: String,
        namespace: Option<String>,
    },
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("{what}: not in time")]
    Late { what: String },
    #[error("{what}: {problem}")]
    Failed { what: String, problem: String },
}

fn within(namespace: Option<&String>) -> String {
    namespace.map_or_else(
        || " in all namespaces".to_owned(),
        |namespace| format!(" in namespace {namespace}"),
    )
}

/// A list, perhaps not all of it.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) has_more: bool,
}

/// Asks until the deadline.
pub(super) struct Api {
    client: Client,
    deadline: Instant,
}

/// What is asked, for messages.
struct Ask<'a> {
    verb: &'static str,
    kind: Kind,
    subresource: &'static str,
    namespace: Option<&'a str>,
    name: &'a str,
}

impl Ask<'_> {
    fn path(&self) -> String {
        let Kind { api, plural } = self.kind;
        let mut path = match self.namespace {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{plural}"),
            None => format!("{api}/{plural}"),
        };
        for part in [self.name, self.subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }

    fn resource(&self) -> String {
        match self.subresource {
            "" => self.kind.plural.to_owned(),
            subresource => format!("{}/{subresource}", self.kind.plural),
        }
    }

    fn what(&self) -> String {
        format!("{} {}", self.resource(), self.name).trim().to_owned()
    }
}

impl Api {
    pub(super) fn new(client: Client, deadline: Instant) -> Self {
        Self { client, deadline }
    }

    /// One object.
    pub(super) async fn get(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let ask = Ask {
            verb: "get",
            kind,
            subresource: "",
            namespace,
            name,
        };
        let body = self.read(&ask, "", MAX_OBJECTS).await?;
        json(&ask, &body)
    }

    /// Objects that a selector chooses, such as `labelSelector`, at most [`PAGE`].
    pub(super) async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        (selector, value): (&str, &str),
    ) -> Result<List, ApiError> {
        let ask = Ask {
            verb: "list",
            kind,
            subresource: "",
            namespace,
            name: "",
        };
        let query = format!("?limit={PAGE}&{selector}={}", encode(value));
        let body = self.read(&ask, &query, MAX_OBJECTS).await?;
        let mut list = json(&ask, &body)?;
        let has_more = list["metadata"]["continue"]
            .as_str()
            .is_some_and(|token| !token.is_empty());
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        Ok(List { items, has_more })
    }

    /// The end of a container's log with times, from `since` (RFC 3339) on.
    pub(super) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
        since: Option<&str>,
    ) -> Result<Bytes, ApiError> {
        let ask = Ask {
            verb: "get",
            kind: PODS,
            subresource: "log",
            namespace: Some(namespace),
            name: pod,
        };
        let mut query = format!(
            "?container={}&timestamps=true&tailLines={MAX_LINES}&limitBytes={MAX_LOG}&previous={previous}",
            encode(container)
        );
        if let Some(since) = since {
            query.push_str("&sinceTime=");
            query.push_str(&encode(since));
        }
        // One byte more than the limit is asked to be, so that an honest server is never too large.
        self.read(&ask, &query, MAX_LOG + 1).await
    }

    async fn read(&self, ask: &Ask<'_>, query: &str, max_bytes: usize) -> Result<Bytes, ApiError> {
        let failed = |problem: String| ApiError::Failed {
            what: ask.what(),
            problem: one_line(&sanitise(&problem), 200),
        };
        let request = Request::get(format!("{}{query}", ask.path()))
            .body(Body::empty())
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.client.send(request).await;
            let response = response.map_err(|error| failed(plumbline_service::error_chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    failed(format!("the answer is longer than {max_bytes} bytes"))
                } else {
                    failed(error.to_string())
                }
            })?;
            Ok((head.status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout_at(self.deadline, exchange)
            .await
            .map_err(|_| ApiError::Late { what: ask.what() })??;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(ApiError::Forbidden {
                verb: ask.verb,
                resource: ask.resource(),
                namespace: ask.namespace.map(str::to_owned),
            }),
            StatusCode::NOT_FOUND => Err(ApiError::NotFound(ask.what())),
            status => {
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                let said = answer["message"].as_str().unwrap_or("no message");
                Err(failed(format!("status {}: {said}", status.as_u16())))
            }
        }
    }
}

fn json(ask: &Ask<'_>, body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::Failed {
        what: ask.what(),
        problem: format!("not an answer of the API server: {error}"),
    })
}
