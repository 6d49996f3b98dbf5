//! From the bytes of a webhook to [`Signal`]s, redacted.

pub(crate) mod alertmanager;
pub(crate) mod cloudevents;
pub(crate) mod github;

use crate::redact::Redactor;
use crate::signal::Signal;

/// A body that cannot be taken; the message names what is wrong and is told to the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the body is not JSON: {0}")]
    Json(String),
    #[error("{path}: {problem}")]
    Field { path: String, problem: String },
    #[error(
        "events of type {0} are not taken; there are dev.plumbline.drift.detected and dev.plumbline.drift.recovered"
    )]
    Type(String),
}

impl Malformed {
    fn field(path: impl Into<String>, problem: impl AsRef<str>) -> Self {
        Self::Field {
            path: path.into(),
            problem: crate::text::one_line(&crate::text::sanitise(problem.as_ref()), 200),
        }
    }
}

/// Signals with what their reading took out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) signals: Vec<Signal>,
    pub(crate) redactions: u64,
}

/// JSON from outside: parsed, made harmless, redacted.
fn clean_json(body: &[u8], redactor: &Redactor) -> Result<(serde_json::Value, u64), Malformed> {
    let value = serde_json::from_slice(body).map_err(|error| Malformed::Json(error.to_string()))?;
    Ok(clean(value, redactor))
}

fn clean(mut value: serde_json::Value, redactor: &Redactor) -> (serde_json::Value, u64) {
    let mut redaction = redactor.begin([]);
    redaction.json(&mut value);
    (value, redaction.count())
}

/// Typed from JSON, with the path of what is wrong.
fn typed<T: serde::de::DeserializeOwned>(value: &serde_json::Value, at: &str) -> Result<T, Malformed> {
    if !value.is_object() {
        let path = if at.is_empty() { "body" } else { at };
        return Err(Malformed::field(path, "invalid type: expected an object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = match (at, inner.as_str()) {
            ("", ".") => "body".to_owned(),
            ("", inner) => inner.to_owned(),
            (at, ".") => at.to_owned(),
            (at, inner) => format!("{at}.{inner}"),
        };
        Malformed::field(path, error.inner().to_string())
    })
}
