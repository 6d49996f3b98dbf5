//! Settings of the gateway.

mod fields;
mod routes;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::config::{ByteSize, Common, Reader, Setting, Source};

pub(crate) use routes::check;
pub use routes::{Condition, MatchSpec, MirrorSpec, MirrorTo, RevisionSpec, RouteSpec, Share, Sticky};

/// The gateway's settings, after those that every part has.
pub const SETTINGS: &[Setting] = &[
    // The file's form stands first: `Reader` and the file look a setting up by name, flags skip tables.
    Setting::table(
        "route",
        "A model and where it is served: model, endpoints or revision tables, and optionally hosts, match tables, sticky, fallback, a mirror table, timeout and max_body. One table for each model.",
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
    Setting::new(
        "config_poll",
        "TIME",
        "How often the --config file is looked at; a change of its routes is taken up by the second look that sees it. SIGHUP does so at once.",
    )
    .default("1s"),
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
    /// Where all of this comes from; nothing for a configuration that was made in the program.
    pub source: Option<Arc<Source>>,
    /// How often the file is looked at.
    pub config_poll: Duration,
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
        let config_poll: Duration = reader.value("config_poll");
        reader.check("config_poll", !config_poll.is_zero(), "must be longer than 0");
        let config = Self {
            common: common.clone(),
            routes: routes::read(reader, request_timeout, max_body),
            source: Some(Arc::clone(reader.source())),
            config_poll,
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
            source: None,
            config_poll: Duration::from_secs(1),
            max_in_flight: NonZeroUsize::new(1024).expect("not zero"),
            connect_timeout: Duration::from_secs(1),
            upstream_idle_timeout: Duration::from_secs(4),
            server_name: "plumbline".to_owned(),
            trust_forwarded: false,
        }
    }
}

#[cfg(test)]
mod tests;
