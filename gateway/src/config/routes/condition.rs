//! What was asked for and cannot be done: told in the log, in a metric and on the admin page.

use std::fmt;

use super::RouteSpec;

/// Something of the routes that could not be honoured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// What kind of problem it is.
    pub reason: Reason,
    /// The route's model; nothing when it is not about a route, such as a file that cannot be read.
    pub route: Option<String>,
    /// The object of Kubernetes that asks for it; nothing for the configuration.
    pub object: Option<String>,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Condition {
    /// Something about no route in particular.
    pub(crate) fn general(reason: Reason, problem: String) -> Self {
        Self {
            reason,
            route: None,
            object: None,
            problem,
        }
    }

    /// Something about a route; `problem` goes on after the model's name.
    pub(crate) fn of(spec: &RouteSpec, reason: Reason, problem: String) -> Self {
        Self {
            reason,
            route: Some(spec.model.clone()),
            object: spec.object.clone(),
            problem,
        }
    }

    /// Of two routes of one model the first stays.
    pub(crate) fn model_taken(spec: &RouteSpec, by: &RouteSpec) -> Self {
        let problem = match (&spec.object, &by.object) {
            (_, Some(older)) => format!("has a route already, of `{older}`, which is older"),
            (Some(_), None) => "has a route in the configuration, which wins".to_owned(),
            (None, None) => "has more than one route".to_owned(),
        };
        Self::of(spec, Reason::ModelNameTaken, problem)
    }

    /// Of two routes of one host the first has it.
    pub(crate) fn host_taken(spec: &RouteSpec, host: &str, by: &str) -> Self {
        let problem = format!("has host `{host}`, which is taken already, by model `{by}`");
        Self::of(spec, Reason::HostTaken, problem)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "`{object}`: ")?;
        }
        if let Some(model) = &self.route {
            write!(f, "model `{}` ", model.escape_default())?;
        }
        f.write_str(&self.problem)
    }
}

/// Why something cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The configuration file is not valid; what it was before goes on serving.
    FileInvalid,
    /// A setting has changed that takes effect at the next start.
    NeedsRestart,
    /// A name that no request can ask for.
    ModelNameInvalid,
    /// Another route has the model.
    ModelNameTaken,
    /// A host that is none.
    HostInvalid,
    /// Another route has the host.
    HostTaken,
    /// Revisions without names of their own, or without a weight.
    RevisionInvalid,
    /// A match, fallback or mirror that leads nowhere.
    RevisionUnknown,
    /// Endpoints that are missing or repeated in the configuration.
    EndpointInvalid,
    /// An object of Kubernetes that cannot be read.
    Malformed,
    /// Annotations about protection that are none.
    AnnotationInvalid,
    /// A deployment mode that has no Services to send requests to.
    UnsupportedMode,
    /// A share of the traffic that is not given.
    CanaryNotHonoured,
    /// A canary without an endpoint; its share goes to the stable revision.
    CanaryNotReady,
    /// The guard has stopped a canary.
    CanaryStopped,
    /// No EndpointSlice of the Service.
    NoService,
    /// No revision is ready yet.
    NoReadyRevision,
    /// No port that requests can be sent to.
    NoPort,
    /// Endpoints that are host names.
    AddressType,
    /// Requests for explanations go where all others go.
    ExplainerNotRouted,
}

impl Reason {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 20] = [
        Self::FileInvalid,
        Self::NeedsRestart,
        Self::ModelNameInvalid,
        Self::ModelNameTaken,
        Self::HostInvalid,
        Self::HostTaken,
        Self::RevisionInvalid,
        Self::RevisionUnknown,
        Self::EndpointInvalid,
        Self::Malformed,
        Self::AnnotationInvalid,
        Self::UnsupportedMode,
        Self::CanaryNotHonoured,
        Self::CanaryNotReady,
        Self::CanaryStopped,
        Self::NoService,
        Self::NoReadyRevision,
        Self::NoPort,
        Self::AddressType,
        Self::ExplainerNotRouted,
    ];

    /// Its label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FileInvalid => "file_invalid",
            Self::NeedsRestart => "needs_restart",
            Self::ModelNameInvalid => "model_name_invalid",
            Self::ModelNameTaken => "model_name_taken",
            Self::HostInvalid => "host_invalid",
            Self::HostTaken => "host_taken",
            Self::RevisionInvalid => "revision_invalid",
            Self::RevisionUnknown => "revision_unknown",
            Self::EndpointInvalid => "endpoint_invalid",
            Self::Malformed => "malformed",
            Self::AnnotationInvalid => "annotation_invalid",
            Self::UnsupportedMode => "unsupported_mode",
            Self::CanaryNotHonoured => "canary_not_honoured",
            Self::CanaryNotReady => "canary_not_ready",
            Self::CanaryStopped => "canary_stopped",
            Self::NoService => "no_service",
            Self::NoReadyRevision => "no_ready_revision",
            Self::NoPort => "no_port",
            Self::AddressType => "address_type",
            Self::ExplainerNotRouted => "explainer_not_routed",
        }
    }
}
