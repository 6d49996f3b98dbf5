//! Who asks, whether they may, and how often.
//!
//! A credential is looked up by its hash, first among the API [`keys`], then among tokens that have been verified; only a
//! token that is new costs a signature. What comes of it is a [`Principal`], or nobody. The policy then decides for the
//! model that the request has been resolved to, and the limits count against the same name.

mod audit;
mod issuers;
mod keys;
mod limits;
mod metrics;
mod policy;
mod principal;
mod refusal;
mod signing_keys;
mod token;
mod token_cache;
mod watch;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use plumbline_service::Process;
use tokio::time::Instant;

use crate::call::Call;
use crate::config::AccessSpec;
use crate::error::GatewayError;

use audit::Audit;
use issuers::{Issuers, KeyFetch};
use keys::hash_of;
use limits::Limits;
use policy::Policy;
use watch::WatchedFile;

pub(crate) use keys::{Keys, generate};
pub(crate) use limits::{Checked, Limit, MAX_REFILL, Quota, Standing};
pub(crate) use metrics::AccessMetrics;
pub(crate) use policy::{Allow, Models, Pattern, Verb, Who};
pub(crate) use principal::Principal;
pub(crate) use refusal::Refusal;
pub(crate) use signing_keys::{Algorithm, SigningKeys};
pub(crate) use token::Token;
use token::{MAX_CREDENTIAL_BYTES, is_token};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What decides about access. Requests share it; nothing in it waits.
#[derive(Debug)]
pub(crate) struct Access {
    /// Whether requests show credentials: keys or issuers are configured. If not, `authorization` is the endpoint's affair.
    reads_credentials: bool,
    forward_credentials: bool,
    keys: ArcSwap<Keys>,
    issuers: Issuers,
    /// Nothing: everybody may do everything.
    policy: Option<Policy>,
    limits: Limits,
    /// What the limits' time counts from.
    started: Instant,
    metrics: AccessMetrics,
    audit: Audit,
}

impl Access {
    /// Reads the files, and keeps keys fresh until the process shuts down; it is not ready before the first attempt to
    /// get each issuer's keys has ended. Needs a tokio runtime.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn start(
        spec: &AccessSpec,
        metrics: AccessMetrics,
        process: &Process,
    ) -> anyhow::Result<Arc<Self>> {
        let shutdown = process.shutdown();
        let mut fetches = Vec::with_capacity(spec.issuers.len());
        for issuer in &spec.issuers {
            fetches.push(KeyFetch::open(issuer)?);
        }
        let keys_file = spec.keys.as_deref().map(WatchedFile::open).transpose();
        let keys_file = keys_file.map_err(anyhow::Error::msg)?;
        let access = Arc::new(Self {
            reads_credentials: spec.keys.is_some() || !spec.issuers.is_empty(),
            forward_credentials: spec.forward_credentials,
            keys: ArcSwap::default(),
            issuers: Issuers::new(&spec.issuers, &metrics),
            policy: policy(spec),
            limits: Limits::new(spec.limits.clone(), metrics.forgotten.clone()),
            started: Instant::now(),
            metrics,
            audit: Audit::default(),
        });
        let readiness = process.readiness();
        access.issuers.spawn(fetches, shutdown, || {
            readiness.wait_for("keys of an issuer of tokens")
        });
        if let Some((file, content)) = keys_file {
            access.use_keys(&content).map_err(anyhow::Error::msg)?;
            let watching = Arc::clone(&access);
            let changed = move |content: Result<Vec<u8>, String>| watching.keys_changed(content);
            tokio::spawn(file.watch(shutdown.clone(), changed));
        }
        Ok(access)
    }

    fn use_keys(&self, content: &[u8]) -> Result<(), String> {
        let keys = Keys::parse(content)?;
        self.metrics.keys.set(keys.len() as i64);
        tracing::info!(keys = keys.len(), "API keys");
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    fn keys_changed(&self, content: Result<Vec<u8>, String>) {
        match content.and_then(|content| self.use_keys(&content)) {
            Ok(()) => self.metrics.keys_replaced.inc(),
            Err(error) => {
                self.metrics.keys_refused.inc();
                tracing::warn!(
                    error,
                    "the new file of API keys is not used; the keys from before are"
                );
            }
        }
    }

    /// Finds out who asks, and takes the credentials off the request. A credential outranks the connection's certificate.
    ///
    /// # Errors
    /// The request has a credential that is not good: it is not taken for one without.
    pub(crate) fn identify(&self, call: &mut Call) -> Result<(), GatewayError> {
        if !self.reads_credentials && self.policy.is_none() {
            return Ok(());
        }
        let shown = if self.reads_credentials {
            self.shown(call.request.headers())
        } else {
            Ok(None)
        };
        match shown {
            Ok(Some(principal)) => call.principal = Some(principal),
            Ok(None) if call.principal.is_some() => self.metrics.by_certificate.inc(),
            Ok(None) => self.metrics.anonymous.inc(),
            Err(refusal) => return Err(self.refuse(call, refusal)),
        }
        if self.reads_credentials && !self.forward_credentials {
            let headers = call.request.headers_mut();
            headers.remove(AUTHORIZATION);
            headers.remove(API_KEY);
        }
        Ok(())
    }

    fn shown(&self, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
        let Some(credential) = credential(headers)? else {
            return Ok(None);
        };
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Err(Refusal::TooLarge);
        }
        let (hash, now) = (hash_of(credential), now());
        if let Some(key) = self.keys.load().get(&hash) {
            if key.expires.is_some_and(|expires| now >= expires) {
                return Err(Refusal::Expired);
            }
            self.metrics.by_key.inc();
            return Ok(Some(Arc::clone(&key.principal)));
        }
        if self.issuers.is_empty() || !is_token(credential) {
            return Err(Refusal::UnknownKey);
        }
        let principal = self.issuers.principal(credential, &hash, now)?;
        self.metrics.by_token.inc();
        Ok(Some(principal))
    }

    /// Refuses clients that have not shown who they are, where no rule is about them: before anything of their request is
    /// read.
    ///
    /// # Errors
    /// [`GatewayError::Unauthenticated`].
    pub(crate) fn admit(&self, call: &Call) -> Result<(), GatewayError> {
        match &self.policy {
            Some(policy) if call.principal.is_none() && !policy.knows_anonymous() => {
                Err(self.refuse(call, Refusal::Missing))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, call: &Call, refusal: Refusal) -> GatewayError {
        self.metrics.refused(refusal).inc();
        self.audit.denied(call, "", "refused", refusal.label());
        GatewayError::refused(refusal)
    }

    /// Whether the policy lets a request have its model.
    ///
    /// # Errors
    /// [`GatewayError::Forbidden`]; [`GatewayError::Unauthenticated`] when showing who asks might help.
    pub(crate) fn authorize(&self, call: &Call, model: &str) -> Result<(), GatewayError> {
        let principal = call.principal.as_deref();
        match &self.policy {
            Some(policy) if !policy.allows(principal, model, call.verb) => {
                if principal.is_none() {
                    return Err(self.refuse(call, Refusal::Missing));
                }
                self.metrics.forbidden.inc();
                self.audit.denied(call, model, "forbidden", "policy");
                Err(GatewayError::Forbidden {
                    model: model.into(),
                    verb: call.verb.name(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a model is in the lists that a request gets.
    pub(crate) fn shows(&self, call: &Call, model: &str) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| policy.shows(call.principal.as_deref(), model))
    }

    /// Counts a request against the rate of its client and model.
    ///
    /// # Errors
    /// [`GatewayError::RateLimited`].
    pub(crate) fn count(&self, call: &Call, model: &str) -> Result<Option<Standing>, GatewayError> {
        let now = self.started.elapsed();
        match self
            .limits
            .check(call.principal.as_deref(), call.address, model, now)
        {
            Checked::Unlimited => Ok(None),
            Checked::Within(standing) => Ok(Some(standing)),
            Checked::Beyond {
                standing,
                retry_after,
            } => {
                self.metrics.limited.inc();
                self.audit.denied(call, model, "limited", "rate");
                Err(GatewayError::RateLimited {
                    retry_after,
                    standing: Box::new(standing),
                })
            }
        }
    }
}

/// What is written, or what follows from who can show who they are.
fn policy(spec: &AccessSpec) -> Option<Policy> {
    if let Some(rules) = &spec.allow {
        return Some(Policy::new(rules.clone()));
    }
    let identified = Who {
        principals: vec![Pattern::Prefix("".into())],
        ..Who::default()
    };
    (spec.keys.is_some() || !spec.issuers.is_empty()).then(|| Policy::everything(identified))
}

/// The one credential of a request. gRPC metadata are the same header fields.
fn credential(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut tokens = headers.get_all(AUTHORIZATION).iter();
    let mut keys = headers.get_all(API_KEY).iter();
    let credential = match (tokens.next(), keys.next()) {
        (None, None) => return Ok(None),
        (Some(token), None) => bearer(token.as_bytes()).ok_or(Refusal::Scheme)?,
        (None, Some(key)) => key.as_bytes(),
        (Some(_), Some(_)) => return Err(Refusal::Several),
    };
    if tokens.next().is_some() || keys.next().is_some() {
        return Err(Refusal::Several);
    }
    Ok(Some(credential))
}

/// RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    let token = token.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}
