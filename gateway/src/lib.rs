//! The entry for inference clients: finds the model's route, forwards, balances, protects.
//!
//! A connection's requests become calls in `call`, pass the layers of `stack` from the outside in, and leave through
//! `forward`, which chooses an `endpoint` with `balance`. Which model goes where is a `snapshot`: immutable, replaced
//! whole, read once by each request; `reload` writes it when the file changes, `kubernetes` as models come and go. Who
//! may have it, and how often, is for `access`; what became of it is told by `metrics` and the `access_log`. Every failure becomes a status in `error`, and nowhere else.

mod access;
mod access_log;
mod app;
mod balance;
mod body;
mod budget;
mod call;
mod config;
mod endpoint;
mod error;
mod forward;
mod grpc_web;
mod guard;
mod hold;
mod host;
mod kubernetes;
mod layers;
mod limiter;
mod metrics;
mod mirror;
mod outcome;
mod page;
mod protection;
mod quantile;
mod reload;
mod replay;
mod route;
mod snapshot;
mod stack;

pub use app::App;
pub use config::{
    AccessLogSpec, AccessLogTo, AccessSpec, ConcurrencySpec, Condition, Config, CorsSpec, GuardSpec,
    HeadLimits, HedgeAfter, MatchSpec, MirrorSpec, MirrorTo, ProtectionSpec, Reason, RevisionSpec, RouteSpec,
    SETTINGS, Share, Sticky,
};
pub use kubernetes::Kubernetes;

/// A new API key for a principal, as text: the key, which nobody can find out again, and its table for the file of keys.
///
/// # Errors
/// What the name has to be.
pub fn new_key(principal: &str) -> Result<String, String> {
    access::generate(principal)
}

/// What the fuzz targets call.
#[doc(hidden)]
pub mod fuzzing {
    /// Takes a token apart, and its claims.
    pub fn token(credential: &[u8]) {
        if let Ok(token) = crate::access::Token::parse(credential) {
            assert!(credential.starts_with(token.message));
            let _claims = (token.text("sub"), token.time("exp"), token.texts("aud"));
        }
    }

    /// Reads a set of an issuer's keys.
    pub fn signing_keys(content: &[u8]) {
        let _keys = crate::access::SigningKeys::parse(content);
    }

    /// Reads a file of API keys.
    pub fn api_keys(content: &[u8]) {
        let _keys = crate::access::Keys::parse(content);
    }

    /// Reads a configuration file.
    ///
    /// # Panics
    /// When the file cannot be written to where temporary files are.
    pub fn config(text: &str) {
        use plumbline_service::config::{Common, Setting, load};

        let path = std::env::temp_dir().join(format!("plumbline-fuzz-{}.toml", std::process::id()));
        std::fs::write(&path, text).expect("a temporary file");
        let settings: &[&[Setting]] = &[&Common::settings("0.0.0.0:8080", "0.0.0.0:9901"), crate::SETTINGS];
        let arguments = ["--config".to_owned(), path.display().to_string()].into_iter();
        let _config = load(
            "gateway",
            settings,
            arguments,
            std::iter::empty(),
            crate::Config::read,
        );
    }

    /// Reads a host name as a request and as a route have it: the name of a route is found by every way to write it.
    pub fn host(text: &str) {
        let of_request = crate::host::Host::parse(text);
        let Some(name) = crate::host::normal(text) else {
            return;
        };
        assert_eq!(of_request.expect("a name is a host").as_str(), name);
        assert_eq!(crate::host::normal(&name), Some(name));
    }
}

/// Which program this is.
pub const PART: plumbline_service::Part = plumbline_service::Part {
    name: "gateway",
    version: env!("CARGO_PKG_VERSION"),
};
