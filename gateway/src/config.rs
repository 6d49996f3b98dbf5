//! Settings of the gateway.

mod fields;
mod routes;

use std::num::NonZeroUsize;
use std::time::Duration;

use plumbline_service::config::{ByteSize, Common, Reader, Setting};

pub(crate) use routes::RESERVED;
pub use routes::{RevisionSpec, RouteSpec};

use crate::kubernetes::Kubernetes;

/// The gateway's settings, after those that every part has.
pub const SETTINGS: &[Setting] = &[
    // The file's form stands first: `Reader` and the file look a setting up by name, flags skip tables.
    Setting::table(
        "route",
        "A model and where it is served: model, endpoints or revision tables, and optionally timeout and max_body. One table for each model.",
    ),
    Setting::repeated(
        "route",
        "MODEL=URL[,URL]",
        "A model and its endpoints, instead of the file's [[route]] tables.",
    ),
    Setting::new(
        "request_timeout",
        "TIME",
        "Deadline of a request whose client and route set none.",
    )
    .default("30s"),
    Setting::new(
        "max_in_flight",
        "N",
        "Requests in flight before new ones are shed with 503 or UNAVAILABLE.",
    )
    .default("1024"),
    Setting::new(
        "max_body",
        "SIZE",
        "Largest request body, or message of a gRPC stream, of a route that sets none.",
    )
    .default("64MiB"),
    Setting::new("connect_timeout", "TIME", "Time to connect to an endpoint.").default("1s"),
    Setting::new(
        "upstream_idle_timeout",
        "TIME",
        "Time that an idle HTTP/1.1 connection to an endpoint is kept; below the endpoint's own.",
    )
    .default("4s"),
    Setting::switch(
        "kubernetes",
        "Finds models in Kubernetes: InferenceServices and the EndpointSlices of their Services.",
    ),
    Setting::new(
        "kubeconfig",
        "FILE",
        "How to reach the API server; without it, the pod's service account.",
    )
    .shared_variable("KUBECONFIG"),
    Setting::repeated(
        "kubernetes_namespace",
        "NAMESPACE",
        "A namespace to look in; all of them when none is given.",
    ),
    Setting::new(
        "kubernetes_selector",
        "LABELS",
        "Labels that InferenceServices must have, as in kubectl --selector.",
    ),
    Setting::new("server_name", "NAME", "Name in the server's metadata.").default("plumbline"),
    Setting::switch(
        "trust_forwarded",
        "Keeps the x-forwarded-* headers of clients and adds to them: for a gateway behind another proxy.",
    ),
];

/// Settings of the gateway. Later wins: defaults, the `--config` file, `PLUMBLINE_GATEWAY_*`, flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every part has.
    pub common: Common,
    /// Models and where they are served.
    pub routes: Vec<RouteSpec>,
    /// Where in Kubernetes more routes are found, if they are.
    pub kubernetes: Option<Kubernetes>,
    /// Requests in flight before new ones are shed with 503 / `UNAVAILABLE`.
    pub max_in_flight: NonZeroUsize,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time that an idle HTTP/1.1 connection to an endpoint is kept.
    pub upstream_idle_timeout: Duration,
    /// Name in the server's metadata.
    pub server_name: String,
    /// Whether clients' `x-forwarded-*` headers are kept.
    pub trust_forwarded: bool,
}

impl Config {
    /// Reads and checks the whole configuration; problems stay in `reader`.
    pub fn read(reader: &mut Reader) -> (Common, Self) {
        let common = Common::read(reader);
        let request_timeout: Duration = reader.value("request_timeout");
        reader.check(
            "request_timeout",
            !request_timeout.is_zero(),
            "must be longer than 0",
        );
        let max_body: ByteSize = reader.value("max_body");
        let connect_timeout: Duration = reader.value("connect_timeout");
        reader.check(
            "connect_timeout",
            !connect_timeout.is_zero(),
            "must be longer than 0",
        );
        let config = Self {
            common: common.clone(),
            routes: routes::read(reader, request_timeout, max_body),
            kubernetes: kubernetes(reader, request_timeout, max_body),
            max_in_flight: reader.value("max_in_flight"),
            connect_timeout,
            upstream_idle_timeout: reader.value("upstream_idle_timeout"),
            server_name: reader.value("server_name"),
            trust_forwarded: reader.switch("trust_forwarded"),
        };
        (common, config)
    }

    /// Defaults with these routes, on free ports of loopback: for tests and for several parts in one process.
    pub fn on_loopback(routes: Vec<RouteSpec>) -> Self {
        Self {
            common: Common::on_loopback(),
            routes,
            kubernetes: None,
            max_in_flight: NonZeroUsize::new(1024).expect("not zero"),
            connect_timeout: Duration::from_secs(1),
            upstream_idle_timeout: Duration::from_secs(4),
            server_name: "plumbline".to_owned(),
            trust_forwarded: false,
        }
    }
}

fn kubernetes(reader: &mut Reader, timeout: Duration, max_body: ByteSize) -> Option<Kubernetes> {
    let kubernetes = Kubernetes {
        kubeconfig: reader.optional("kubeconfig"),
        namespaces: reader.list("kubernetes_namespace"),
        selector: reader.optional("kubernetes_selector"),
        defaults: RouteSpec {
            timeout,
            max_body,
            ..RouteSpec::new("", Vec::new())
        },
    };
    let is_name = |name: &String| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(is_inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
    };
    for name in kubernetes.namespaces.iter().filter(|name| !is_name(name)) {
        reader.reject(
            "kubernetes_namespace",
            format!("`{name}` is not a namespace; expected at most 63 of a-z, 0-9 and -"),
        );
    }
    let on = reader.switch("kubernetes");
    reader.check(
        "kubernetes_namespace",
        on || kubernetes.namespaces.is_empty(),
        "has no effect without `kubernetes`",
    );
    reader.check(
        "kubernetes_selector",
        on || kubernetes.selector.is_none(),
        "has no effect without `kubernetes`",
    );
    on.then_some(kubernetes)
}

#[cfg(test)]
mod tests;
