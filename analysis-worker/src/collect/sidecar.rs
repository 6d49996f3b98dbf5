//! The sidecar's `/drift`, as it is now.

use http::Uri;
use plumbline_drift::report::DriftOverview;

use super::About;
use crate::config::Sources;
use crate::drift::Drift;
use crate::http::{HttpClient, join, origin};

/// Largest answer: 200 features with their histograms stay far below.
const MAX_BYTES: usize = 8 << 20;

/// Asks the sidecar of the model, or the one that sent the event if it may be asked.
pub(super) async fn ask(
    http: &HttpClient,
    sources: &Sources,
    about: &About,
    event_source: Option<&str>,
) -> Result<Drift, String> {
    let url = url(sources, about.model.as_deref(), event_source)?;
    let uri = join(&url, "/drift").map_err(|error| error.to_string())?;
    let body = http
        .get(uri.clone(), sources.timeout, MAX_BYTES)
        .await
        .map_err(|error| format!("{uri}: {error}"))?;
    let overview: DriftOverview =
        serde_json::from_slice(&body).map_err(|error| format!("{uri}: not a drift report: {error}"))?;
    let named = |report: &&plumbline_drift::report::DriftReport| match &about.model {
        Some(model) => report.model == *model,
        None => true,
    };
    match overview.models.iter().find(named) {
        Some(report) => Ok(Drift::from(report)),
        None => Err(format!("{uri}: has no model of that name")),
    }
}

/// The comparison that the configured sidecar of `model` has now.
///
/// # Errors
/// Why there is none.
pub(crate) async fn now(http: &HttpClient, sources: &Sources, model: Option<&str>) -> Result<Drift, String> {
    let about = About {
        kind: crate::signal::DRIFT.to_owned(),
        model: model.map(str::to_owned),
        started_at: 0,
    };
    ask(http, sources, &about, None).await
}

/// A configured URL by model; otherwise the event's source, but only at an origin that the settings name: whoever can
/// send an event must not be able to make the worker call any address.
fn url(sources: &Sources, model: Option<&str>, event_source: Option<&str>) -> Result<Uri, String> {
    let configured = sources
        .sidecars
        .iter()
        .find(|sidecar| Some(sidecar.model.as_str()) == model);
    if let Some(sidecar) = configured {
        return Ok(sidecar.url.clone());
    }
    let Some(source) = event_source else {
        return Err("no sidecar is configured for this model (sidecar)".to_owned());
    };
    let uri: Uri = source
        .parse()
        .map_err(|_| "the event's source is not a URL".to_owned())?;
    let asked = origin(&uri);
    let allowed = asked.is_some()
        && sources
            .sidecars
            .iter()
            .any(|sidecar| origin(&sidecar.url) == asked);
    if allowed {
        let (scheme, host, port) = asked.unwrap_or_default();
        format!("{scheme}://{host}:{port}")
            .parse()
            .map_err(|_| "the event's source is not a URL".to_owned())
    } else {
        Err("the event's source is not among the configured sidecars (sidecar)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sidecar;

    fn sources() -> Sources {
        Sources {
            sidecars: vec![Sidecar {
                model: "churn".to_owned(),
                url: "http://127.0.0.1:9902".parse().expect("a URL"),
            }],
            ..Sources::none()
        }
    }

    #[test]
    fn only_configured_origins_are_asked() {
        let sources = sources();
        let ask = |model, source| url(&sources, model, source).map(|uri| uri.to_string());
        assert_eq!(
            ask(Some("churn"), Some("http://evil.example")).as_deref(),
            Ok("http://127.0.0.1:9902/")
        );
        assert_eq!(
            ask(Some("fraud"), Some("http://127.0.0.1:9902/x?y")).as_deref(),
            Ok("http://127.0.0.1:9902/")
        );
        assert!(ask(Some("fraud"), Some("http://127.0.0.1:9903")).is_err());
        assert!(ask(Some("fraud"), Some("http://127.0.0.1:9902@evil.example/")).is_err());
        assert!(ask(Some("fraud"), Some("/relative")).is_err());
        assert!(ask(None, None).is_err());
    }
}
