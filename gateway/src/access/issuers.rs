//! Whose tokens are believed, and with which keys.

mod fetch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use plumbline_service::{ReadinessToken, Shutdown};
use tokio::sync::Notify;

use crate::access::keys::Hash;
use crate::access::metrics::{AccessMetrics, IssuerMetrics};
use crate::access::principal::Principal;
use crate::access::refusal::Refusal;
use crate::access::signing_keys::{SigningKeys, Verified};
use crate::access::token::Token;
use crate::access::token_cache::{TokenCache, VerifiedToken};
use crate::config::{IssuerSpec, KeySource};

pub(crate) use fetch::KeyFetch;

/// Every issuer, and the tokens of theirs that have been verified.
#[derive(Debug)]
pub(crate) struct Issuers {
    known: Vec<Arc<Issuer>>,
    cache: TokenCache,
    /// Counts changes of any issuer's keys.
    generation: Arc<AtomicU64>,
    metrics: AccessMetrics,
}

/// One issuer and its present keys.
#[derive(Debug)]
pub(crate) struct Issuer {
    spec: IssuerSpec,
    keys: ArcSwapOption<SigningKeys>,
    generation: Arc<AtomicU64>,
    /// A token named a key that the set does not have.
    missed: Notify,
    /// When keys were last got, in seconds since 1970.
    got: AtomicI64,
    metrics: IssuerMetrics,
}

impl Issuers {
    pub(crate) fn new(specs: &[IssuerSpec], metrics: &AccessMetrics) -> Self {
        let generation = Arc::new(AtomicU64::new(0));
        let issuer = |spec: &IssuerSpec| {
            Arc::new(Issuer {
                metrics: metrics.issuer(&spec.issuer),
                spec: spec.clone(),
                keys: ArcSwapOption::empty(),
                generation: Arc::clone(&generation),
                missed: Notify::new(),
                got: AtomicI64::new(0),
            })
        };
        Self {
            known: specs.iter().map(issuer).collect(),
            cache: TokenCache::new(),
            generation: Arc::clone(&generation),
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whose token this is. `hash` is the token's, `now` in seconds since 1970.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(crate) fn principal(&self, token: &[u8], hash: &Hash, now: i64) -> Result<Arc<Principal>, Refusal> {
        // Before the keys are read: keys that change meanwhile make the entry one that is verified again.
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(principal) = self.cache.get(hash, now, generation) {
            self.metrics.cache_hits.inc();
            return Ok(principal);
        }
        self.metrics.cache_misses.inc();
        let token = Token::parse(token)?;
        let issuer = token.text("iss").ok_or(Refusal::Claims)?;
        let issuer = self.known.iter().find(|known| known.spec.issuer == issuer);
        let (principal, expires) = issuer.ok_or(Refusal::UnknownIssuer)?.verify(&token, now)?;
        let principal = Arc::new(principal);
        let verified = VerifiedToken {
            hash: *hash,
            principal: Arc::clone(&principal),
            expires,
            generation,
        };
        self.cache.put(verified, now);
        Ok(principal)
    }

    /// Keeps every issuer's keys fresh until listeners close. Each holds `loading` until its first attempt has ended:
    /// an issuer that is away delays the start, and does not prevent it.
    pub(crate) fn spawn(
        &self,
        fetches: Vec<KeyFetch>,
        shutdown: &Shutdown,
        loading: impl Fn() -> ReadinessToken,
    ) {
        for (issuer, fetch) in self.known.iter().zip(fetches) {
            tokio::spawn(fetch.keep_fresh(Arc::clone(issuer), shutdown.clone(), loading()));
        }
    }
}

impl Issuer {
    /// Everything that makes a token good, the signature first: what is told about a claim is told of one that the issuer
    /// has made.
    fn verify(&self, token: &Token<'_>, now: i64) -> Result<(Principal, i64), Refusal> {
        let spec = &self.spec;
        if !spec.algorithms.contains(&token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(Refusal::KeysUnavailable)?;
        match keys.verify(
            token.key_id.as_deref(),
            token.algorithm,
            token.message,
            &token.signature,
        ) {
            Verified::Good => {}
            Verified::Bad => return Err(Refusal::Signature),
            Verified::WrongAlgorithm => return Err(Refusal::Algorithm),
            Verified::UnknownKey => {
                self.missed.notify_one();
                return Err(Refusal::UnknownSigningKey);
            }
        }
        let leeway = spec.leeway.as_secs() as i64;
        let expires = token.time("exp")?.ok_or(Refusal::Claims)?.saturating_add(leeway);
        if now >= expires {
            return Err(Refusal::Expired);
        }
        if token
            .time("nbf")?
            .is_some_and(|from| now.saturating_add(leeway) < from)
        {
            return Err(Refusal::NotYetValid);
        }
        if !token.texts("aud")?.contains(&&*spec.audience) {
            return Err(Refusal::Audience);
        }
        let prefixed = |name: &str| format!("{}{name}", spec.prefix);
        let groups: Vec<String> = token
            .texts(&spec.groups_claim)?
            .into_iter()
            .map(prefixed)
            .collect();
        let name = token.text(&spec.principal_claim).filter(|name| !name.is_empty());
        let name = prefixed(name.ok_or(Refusal::Claims)?);
        let principal = Principal::new(&name, groups.iter().map(String::as_str));
        Ok((principal.ok_or(Refusal::Claims)?, expires))
    }

    /// Replaces the keys. Tokens that were verified with others are verified again.
    fn replace(&self, keys: Option<SigningKeys>) {
        let changed = self.keys.load().as_deref() != keys.as_ref();
        if changed {
            self.metrics
                .keys
                .set(keys.as_ref().map_or(0, SigningKeys::len) as i64);
            self.keys.store(keys.map(Arc::new));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Keys that were got now.
    fn got(&self, keys: SigningKeys) {
        let now = crate::access::now();
        self.got.store(now, Ordering::Relaxed);
        self.metrics.fetched.inc();
        self.metrics.last_success.set(now);
        self.replace(Some(keys));
    }

    /// No keys could be got. Those from before are used for as long as is allowed.
    fn not_got(&self, problem: &str) {
        self.metrics.failed.inc();
        let age = crate::access::now().saturating_sub(self.got.load(Ordering::Relaxed));
        let stale = matches!(&self.spec.keys, KeySource::Url { grace, .. } if age > grace.as_secs() as i64);
        if stale {
            self.replace(None);
        }
        let usable = self.keys.load().is_some();
        tracing::warn!(
            issuer = self.spec.issuer,
            error = problem,
            usable,
            "the issuer's keys could not be got"
        );
    }
}

#[cfg(test)]
mod tests;
