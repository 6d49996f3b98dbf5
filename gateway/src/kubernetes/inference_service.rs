//! KServe's InferenceService, `serving.kserve.io/v1beta1`: what a gateway needs of it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use super::object::{Kind, or_default, read};
use crate::config::{ProtectionSpec, read_texts};

/// How KServe runs a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Deployments and Services; `RawDeployment` of older versions.
    Standard,
    /// Knative Services with their revisions; `Serverless` of older versions.
    Knative,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Knative => "Knative",
        }
    }
}

/// What we keep of an InferenceService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InferenceService {
    /// RFC 3339, which sorts by time.
    pub(super) created: Box<str>,
    /// The mode, or the name of one that cannot be routed to.
    pub(super) mode: Result<Mode, Box<str>>,
    /// What its server is told to call the model, when that is not the object's name.
    pub(super) model_name: Option<Box<str>>,
    /// `spec.predictor.name`, which is in the name of its Service.
    pub(super) predictor_name: Option<Box<str>>,
    /// Requests go to the transformer, which calls the predictor.
    pub(super) has_transformer: bool,
    pub(super) has_explainer: bool,
    /// `spec.*.canaryTrafficPercent` of the component that requests go to.
    pub(super) canary_traffic_percent: Option<i64>,
    /// `spec.canary`: Services of their own with a share each.
    pub(super) canaries: Vec<Canary>,
    /// The component's `timeout`.
    pub(super) timeout: Option<Duration>,
    /// How it is protected, by its annotations, or what is wrong with them.
    pub(super) protection: Result<Box<ProtectionSpec>, Box<str>>,
    /// Knative's shares of revisions.
    pub(super) traffic: Vec<Traffic>,
    pub(super) latest_ready_revision: Option<Box<str>>,
    /// The host names of its URL and of the component that requests go to.
    pub(super) hosts: Vec<Box<str>>,
}

/// One of `spec.canary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Canary {
    pub(super) name: Box<str>,
    pub(super) percent: i64,
}

/// One of `status.components.*.traffic`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Traffic {
    pub(super) revision_name: Option<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) latest_revision: bool,
    /// Not there for a revision that only its tag leads to.
    pub(super) percent: Option<i64>,
}

impl Kind for InferenceService {
    const API: &'static str = "/apis/serving.kserve.io/v1beta1";
    const PLURAL: &'static str = "inferenceservices";

    fn read(object: Value) -> Result<Self, String> {
        read::<Wire>(object).map(Self::from)
    }
}

impl From<Wire> for InferenceService {
    fn from(wire: Wire) -> Self {
        let Wire {
            metadata,
            spec,
            mut status,
        } = wire;
        let has_transformer = spec.transformer.is_some();
        let component = if has_transformer {
            "transformer"
        } else {
            "predictor"
        };
        let entry = status.components.remove(component).unwrap_or_default();
        let mode = status
            .deployment_mode
            .filter(|mode| !mode.is_empty())
            .or_else(|| metadata.annotations.get(MODE_ANNOTATION).cloned());
        let mode = match mode.as_deref() {
            Some("Standard" | "RawDeployment") => Ok(Mode::Standard),
            Some("Knative" | "Serverless") => Ok(Mode::Knative),
            Some(other) => Err(other.into()),
            // Before 0.15 the mode is not told; only Knative has revisions.
            None if entry.latest_ready_revision.is_some() => Ok(Mode::Knative),
            None => Ok(Mode::Standard),
        };
        // Not the predictor's where there is a transformer, which asks it there.
        let mut hosts: Vec<Box<str>> = [status.url, entry.url]
            .iter()
            .flatten()
            .filter_map(|url| Some(url.parse::<Uri>().ok()?.host()?.into()))
            .collect();
        hosts.dedup();
        let ours = metadata.annotations.iter().filter_map(|(name, text)| {
            let (domain, key) = name.split_once('/')?;
            (domain == ANNOTATIONS).then_some((key, &**text))
        });
        let protection = read_texts(ANNOTATIONS, ours).map(Box::new).map_err(Box::from);
        let predictor_name = spec.predictor.name.clone();
        let model_name = spec.predictor.model_name();
        let entry_spec = spec.transformer.unwrap_or(spec.predictor);
        Self {
            created: metadata.creation_timestamp.unwrap_or_default(),
            mode,
            model_name,
            predictor_name,
            has_transformer,
            has_explainer: spec.explainer.is_some(),
            canary_traffic_percent: entry_spec.canary_traffic_percent,
            canaries: spec.canary.into_iter().map(Canary::from).collect(),
            timeout: entry_spec
                .timeout
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            protection,
            traffic: entry.traffic,
            latest_ready_revision: entry.latest_ready_revision,
            hosts,
        }
    }
}

/// The domain of annotations that are for the gateway: keys of a route's table in the file.
const ANNOTATIONS: &str = "plumbline.dev";
const MODE_ANNOTATION: &str = "serving.kserve.io/deploymentMode";

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Deserialize)]
struct Spec {
    predictor: Component,
    transformer: Option<Component>,
    explainer: Option<Value>,
    #[serde(default, deserialize_with = "or_default")]
    canary: Vec<CanaryWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CanaryWire {
    predictor: Component,
    traffic_percent: i64,
}

impl From<CanaryWire> for Canary {
    fn from(wire: CanaryWire) -> Self {
        Self {
            name: wire.predictor.name.unwrap_or_default(),
            percent: wire.traffic_percent,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    name: Option<Box<str>>,
    canary_traffic_percent: Option<i64>,
    timeout: Option<i64>,
    model: Option<Container>,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "or_default")]
    args: Vec<String>,
}

impl Component {
    /// `--model_name` as KServe's runtimes take it. (`model.name` is the container's name, not the model's.)
    fn model_name(&self) -> Option<Box<str>> {
        self.model.iter().chain(&self.containers).find_map(|container| {
            let mut args = container.args.iter();
            while let Some(arg) = args.next() {
                let value = match arg.split_once('=') {
                    Some(("--model_name" | "--model-name", value)) => Some(value),
                    None if matches!(arg.as_str(), "--model_name" | "--model-name") => {
                        args.next().map(String::as_str)
                    }
                    _ => None,
                };
                // `{{.Name}}` and `$(VARIABLE)` are put in later, by KServe and the kubelet.
                if let Some(value) = value.filter(|value| !value.is_empty() && !value.contains(['{', '$'])) {
                    return Some(value.into());
                }
            }
            None
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    url: Option<Box<str>>,
    deployment_mode: Option<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    components: BTreeMap<Box<str>, ComponentStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComponentStatus {
    url: Option<Box<str>>,
    latest_ready_revision: Option<Box<str>>,
    #[serde(default, deserialize_with = "or_default")]
    traffic: Vec<Traffic>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value, status: Value) -> InferenceService {
        let mut object = json!({"metadata": {"name": "iris"}});
        object["spec"] = spec;
        object["status"] = status;
        InferenceService::read(object).expect("readable")
    }

    #[test]
    fn the_mode_is_told_or_seen_by_its_revisions() {
        let of = |status: Value| service(json!({"predictor": {}}), status).mode;
        for (told, mode) in [
            ("Standard", Ok(Mode::Standard)),
            ("RawDeployment", Ok(Mode::Standard)),
            ("Knative", Ok(Mode::Knative)),
            ("Serverless", Ok(Mode::Knative)),
            ("ModelMesh", Err("ModelMesh".into())),
        ] {
            assert_eq!(of(json!({"deploymentMode": told})), mode);
        }
        assert_eq!(of(Value::Null), Ok(Mode::Standard));
        let revision = json!({"components": {"predictor": {"latestReadyRevision": "iris-predictor-00001"}}});
        assert_eq!(of(revision), Ok(Mode::Knative));
        let annotated = InferenceService::read(json!({
            "metadata": {"annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"}},
            "spec": {"predictor": {}},
        }));
        assert_eq!(annotated.expect("readable").mode, Ok(Mode::Standard));
    }

    #[test]
    fn the_model_is_called_what_its_server_is_told() {
        let of = |predictor: Value| service(json!({"predictor": predictor}), Value::Null).model_name;
        assert_eq!(of(json!({"model": {"name": "kserve-container"}})), None);
        assert_eq!(of(json!({"model": {"args": ["--model_name={{.Name}}"]}})), None);
        for args in [
            json!(["--workers=2", "--model_name=flowers"]),
            json!(["--model_name", "flowers"]),
            json!(["--model-name=flowers"]),
        ] {
            assert_eq!(of(json!({"model": {"args": args}})).as_deref(), Some("flowers"));
            assert_eq!(
                of(json!({"containers": [{"args": args}]})).as_deref(),
                Some("flowers")
            );
        }
    }

    #[test]
    fn annotations_of_the_gateway_are_read_and_others_are_not() {
        let of = |annotations: Value| {
            let object = json!({"metadata": {"annotations": annotations}, "spec": {"predictor": {}}});
            InferenceService::read(object).expect("readable").protection
        };
        let held = of(json!({"plumbline.dev/hold": "20s", "example.com/hold": "soon", "hold": "soon"}));
        let expected = ProtectionSpec {
            hold: Duration::from_secs(20),
            ..ProtectionSpec::default()
        };
        assert_eq!(held, Ok(Box::new(expected)));
        let problem = of(json!({"plumbline.dev/hold": "soon"})).expect_err("no time");
        assert!(
            problem.starts_with("plumbline.dev: `hold`: expected a time"),
            "{problem}"
        );
    }

    #[test]
    fn hosts_are_those_of_its_urls() {
        let status = json!({
            "url": "http://iris.models.example.com",
            "components": {"predictor": {"url": "http://iris-predictor.models.example.com/x"}},
        });
        assert_eq!(
            service(json!({"predictor": {}}), status).hosts,
            [
                "iris.models.example.com".into(),
                "iris-predictor.models.example.com".into()
            ]
        );
    }

    #[test]
    fn with_a_transformer_its_settings_count() {
        let spec = json!({
            "predictor": {"timeout": 5, "canaryTrafficPercent": 10},
            "transformer": {"timeout": 7},
        });
        let service = service(spec, Value::Null);
        assert!(service.has_transformer);
        assert_eq!(service.timeout, Some(Duration::from_secs(7)));
        assert_eq!(service.canary_traffic_percent, None);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_place() {
        for (spec, expected) in [
            (json!({}), "spec: missing field `predictor`"),
            (json!({"predictor": []}), "spec.predictor"),
            (
                json!({"predictor": {"canaryTrafficPercent": "ten"}}),
                "spec.predictor.canaryTrafficPercent",
            ),
            (
                json!({"predictor": {}, "canary": [{"predictor": {}}]}),
                "spec.canary[0]: missing field `trafficPercent`",
            ),
        ] {
            let error = InferenceService::read(json!({"spec": spec})).expect_err("malformed");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
