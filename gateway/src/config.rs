//! Settings of the gateway.

mod access;
mod access_log;
mod cors;
mod fields;
mod guard;
mod protection;
mod routes;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::config::{ByteSize, Common, Reader, Setting, Source};
use plumbline_service::{NamedCertificate, TLS_SETTINGS, TlsFiles};

pub use access::AccessSpec;
pub(crate) use access::{IssuerSpec, KeySource};
pub use access_log::{AccessLogSpec, AccessLogTo};
pub use cors::CorsSpec;
pub(crate) use fields::Fields;
pub use guard::GuardSpec;
pub(crate) use protection::read_texts;
pub use protection::{ConcurrencySpec, HedgeAfter, ProtectionSpec};
pub use routes::{
    Condition, MatchSpec, MirrorSpec, MirrorTo, Reason, RevisionSpec, RouteSpec, Share, Sticky,
};
pub(crate) use routes::{RouteTables, check_route, expected_of_model};

use crate::kubernetes::Kubernetes;

/// The gateway's settings, after those that every part has.
pub const SETTINGS: &[Setting] = &[
    // The file's form stands first: `Reader` and the file look a setting up by name, flags skip tables.
    Setting::tables(
        "route",
        "A model and where it is served: model, endpoints or revision tables, and optionally hosts, match tables, sticky, fallback, a mirror table, timeout, max_body and how it is protected. One table for each model.",
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
    Setting::new(
        "max_header_bytes",
        "SIZE",
        "Largest sum of a request's header names and values; a larger one is answered 431.",
    )
    .default("64KiB"),
    Setting::new(
        "max_headers",
        "N",
        "Header fields of a request; more are answered 431. Above 100, reading an HTTP/1.1 head costs an allocation.",
    )
    .default("100"),
    Setting::new(
        "max_target",
        "SIZE",
        "Longest path with query; a longer one is answered 414.",
    )
    .default("16KiB"),
    Setting::table(
        "access",
        "Who may do what, and how often: keys, issuer, allow and limit; docs/gateway/access.md. In the file only.",
    ),
    Setting::table(
        "cors",
        "Pages of other origins that browsers let ask and read: origins, headers, credentials, max_age; docs/gateway/operations.md. In the file only.",
    ),
    Setting::new(
        "tls_listen",
        "ADDR",
        "Data port under TLS, beside the plain one, when there is a certificate.",
    )
    .default("0.0.0.0:8443"),
    Setting::new(
        "tls_cert",
        "FILE",
        "Certificate of the TLS port with its chain (PEM), for clients that name no server with a certificate of its own.",
    ),
    TLS_SETTINGS[1],
    TLS_SETTINGS[2],
    TLS_SETTINGS[3],
    Setting::table(
        "tls_certificate",
        "A certificate for the server names (SNI) in it, exact or with a wildcard: cert and key. One table for each.",
    ),
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
    Setting::switch(
        "kubernetes_unguarded",
        "Leaves canaries of Kubernetes their traffic, however bad they are; otherwise they are guarded.",
    ),
    Setting::new(
        "state_dir",
        "DIR",
        "Where stopped canaries are kept across restarts; without it, each has traffic again until it is found once more.",
    ),
    Setting::new(
        "events_to",
        "URL",
        "The analysis-worker, or the whole URL of its events endpoint; it is told of stopped canaries.",
    ),
    Setting::new(
        "config_poll",
        "TIME",
        "How often the --config file is looked at; a change of its routes is taken up by the second look that sees it. SIGHUP does so at once.",
    )
    .default("1s"),
    Setting::new(
        "access_log",
        "FILE",
        "A file, or stdout: one JSON object a line for each request; opened anew on SIGHUP. off: none.",
    )
    .default("off"),
    Setting::new(
        "access_log_sample",
        "SHARE",
        "Share of successes, 0 to 1, that the access log has; what is no success it always has.",
    )
    .default("1"),
    Setting::switch(
        "server_timing",
        "Tells clients in the header server-timing how long the gateway and the endpoint took.",
    ),
    Setting::new(
        "handover",
        "PATH",
        "A Unix socket where a process that is started with the same setting takes over the ports of this one, which then leaves.",
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
    pub routes: Vec<Arc<RouteSpec>>,
    /// To read them again.
    pub(crate) route_tables: RouteTables,
    /// Where in Kubernetes more routes are found, if they are.
    pub kubernetes: Option<Kubernetes>,
    /// Where stopped canaries are kept across restarts.
    pub state_dir: Option<PathBuf>,
    /// Who is told of them.
    pub events_to: Option<http::Uri>,
    /// Where all of this comes from; nothing for a configuration that was made in the program.
    pub source: Option<Arc<Source>>,
    /// How often the file is looked at.
    pub config_poll: Duration,
    /// Requests in flight before new ones are shed with 503 / `UNAVAILABLE`.
    pub max_in_flight: NonZeroUsize,
    /// What a request's head may have.
    pub head: HeadLimits,
    /// Who may do what, and how often.
    pub access: AccessSpec,
    /// Which browsers' pages may ask; nothing for those of the gateway's own origin alone.
    pub cors: Option<CorsSpec>,
    /// The data port under TLS.
    pub tls_listen: SocketAddr,
    /// Its certificates; without them there is no such port.
    pub tls: Option<TlsFiles>,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time that an idle HTTP/1.1 connection to an endpoint is kept.
    pub upstream_idle_timeout: Duration,
    /// What the access log tells of, and where.
    pub access_log: AccessLogSpec,
    /// Whether answers say how long the gateway and the endpoint took.
    pub server_timing: bool,
    /// Name in the server's metadata.
    pub server_name: String,
    /// Whether clients' `x-forwarded-*` headers are kept.
    pub trust_forwarded: bool,
}

/// What a request's head may have.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of header names and values together.
    pub header_bytes: usize,
    /// Header fields.
    pub headers: usize,
    /// Bytes of path and query.
    pub target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            headers: 100,
            target: 16 << 10,
        }
    }
}

impl HeadLimits {
    fn read(reader: &mut Reader) -> Self {
        let header_bytes: ByteSize = reader.value("max_header_bytes");
        let target: ByteSize = reader.value("max_target");
        let headers: NonZeroUsize = reader.value("max_headers");
        // Hyper's read buffer has 400 KiB for all of a head.
        let fits = |size: ByteSize, most: u64| (256..=most).contains(&size.0);
        reader.check(
            "max_header_bytes",
            fits(header_bytes, 256 << 10),
            "must be between 256 and 256KiB",
        );
        reader.check(
            "max_target",
            fits(target, 64 << 10),
            "must be between 256 and 64KiB",
        );
        reader.check("max_headers", headers.get() <= 1_000, "must be at most 1000");
        Self {
            header_bytes: header_bytes.as_usize(),
            headers: headers.get(),
            target: target.as_usize(),
        }
    }
}

/// The certificates of `[[tls_certificate]]`.
fn named_certificates(reader: &mut Reader) -> Vec<NamedCertificate> {
    let tables: Vec<toml::Table> = reader.table("tls_certificate");
    let mut problems = Vec::new();
    let mut certificates = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let mut fields = Fields::new(format!("certificate {}", index + 1), table, &mut problems);
        let (cert, key) = (fields.required_setting("cert"), fields.required_setting("key"));
        fields.end();
        if let (Some(cert), Some(key)) = (cert, key) {
            certificates.push(NamedCertificate { cert, key });
        }
    }
    for problem in problems {
        reader.reject("tls_certificate", problem);
    }
    certificates
}

impl Config {
    /// Reads and checks the whole configuration; problems stay in `reader`.
    pub fn read(reader: &mut Reader) -> (Common, Self) {
        let mut route_tables = RouteTables::default();
        let (common, config) = Self::read_again(reader, &mut route_tables);
        (
            common,
            Self {
                route_tables,
                ..config
            },
        )
    }

    /// The same; routes whose tables are as they were are those of `route_tables`.
    pub(crate) fn read_again(reader: &mut Reader, route_tables: &mut RouteTables) -> (Common, Self) {
        let common = Common {
            handover: reader.optional("handover"),
            ..Common::read(reader)
        };
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
        let config_poll: Duration = reader.value("config_poll");
        reader.check("config_poll", !config_poll.is_zero(), "must be longer than 0");
        let named = named_certificates(reader);
        let config = Self {
            head: HeadLimits::read(reader),
            access: access::read(reader),
            cors: cors::read(reader),
            tls_listen: reader.value("tls_listen"),
            tls: TlsFiles::read_with_named(reader, named),
            common: common.clone(),
            routes: routes::read(reader, request_timeout, max_body, route_tables),
            route_tables: RouteTables::default(),
            kubernetes: kubernetes(reader, request_timeout, max_body),
            state_dir: reader.optional("state_dir"),
            events_to: reader.optional("events_to"),
            source: Some(Arc::clone(reader.source())),
            config_poll,
            max_in_flight: reader.value("max_in_flight"),
            connect_timeout,
            upstream_idle_timeout: reader.value("upstream_idle_timeout"),
            access_log: access_log::read(reader),
            server_timing: reader.switch("server_timing"),
            server_name: reader.value("server_name"),
            trust_forwarded: reader.switch("trust_forwarded"),
        };
        let plain = |url: &http::Uri| url.scheme_str() == Some("http");
        reader.check(
            "events_to",
            config.events_to.as_ref().is_none_or(plain),
            "only http:// is spoken to the worker",
        );
        (common, config)
    }

    /// Defaults with these routes, on free ports of loopback: for tests and for several parts in one process.
    pub fn on_loopback(routes: Vec<RouteSpec>) -> Self {
        Self {
            head: HeadLimits::default(),
            access: AccessSpec::default(),
            cors: None,
            tls_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            common: Common::on_loopback(),
            routes: routes.into_iter().map(Arc::new).collect(),
            route_tables: RouteTables::default(),
            kubernetes: None,
            state_dir: None,
            events_to: None,
            source: None,
            config_poll: Duration::from_secs(1),
            max_in_flight: NonZeroUsize::new(1024).expect("not zero"),
            connect_timeout: Duration::from_secs(1),
            upstream_idle_timeout: Duration::from_secs(4),
            access_log: AccessLogSpec::default(),
            server_timing: false,
            server_name: "plumbline".to_owned(),
            trust_forwarded: false,
        }
    }
}

/// The admin port of the sidecar in a predictor's pod.
const SIDECAR_PORT: u16 = 9902;

fn kubernetes(reader: &mut Reader, timeout: Duration, max_body: ByteSize) -> Option<Kubernetes> {
    let guarded = !reader.switch("kubernetes_unguarded");
    let kubernetes = Kubernetes {
        kubeconfig: reader.optional("kubeconfig"),
        namespaces: reader.list("kubernetes_namespace"),
        selector: reader.optional("kubernetes_selector"),
        defaults: RouteSpec {
            timeout,
            max_body,
            // The name of the stable revision is the service's.
            guard: guarded.then(|| GuardSpec {
                sidecar_port: Some(SIDECAR_PORT),
                ..GuardSpec::new("")
            }),
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
