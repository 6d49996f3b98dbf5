//! Series about who was let in.

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::access::refusal::Refusal;

/// Every series about access. Each decision and reason is there from the start.
#[derive(Clone, Debug)]
pub(crate) struct AccessMetrics {
    pub(crate) by_key: IntCounter,
    pub(crate) by_token: IntCounter,
    pub(crate) by_certificate: IntCounter,
    pub(crate) anonymous: IntCounter,
    refused: [IntCounter; Refusal::ALL.len()],
    pub(crate) forbidden: IntCounter,
    pub(crate) limited: IntCounter,
    pub(crate) forgotten: IntCounter,
    pub(crate) cache_hits: IntCounter,
    pub(crate) cache_misses: IntCounter,
    pub(crate) keys: IntGauge,
    pub(crate) keys_replaced: IntCounter,
    pub(crate) keys_refused: IntCounter,
    issuer_keys: IntGaugeVec,
    issuer_success: IntGaugeVec,
    issuer_fetches: IntCounterVec,
}

/// The series of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct IssuerMetrics {
    pub(crate) keys: IntGauge,
    pub(crate) last_success: IntGauge,
    pub(crate) fetched: IntCounter,
    pub(crate) failed: IntCounter,
}

impl AccessMetrics {
    /// Declares every series.
    pub(crate) fn declare(registry: &Registry) -> Self {
        let access = registry.counter_vec(
            "plumbline_gateway_access_total",
            "Decisions about access. A request is `identified` by key, token, certificate or not at all (anonymous), or `refused` for a reason; then it may be `forbidden` by the policy or `limited` by a rate.",
            &["decision", "reason"],
        );
        let decided = |decision, reason| access.with_label_values(&[decision, reason]);
        let cache = registry.counter_vec(
            "plumbline_gateway_token_cache_total",
            "Tokens looked up among those verified already: hit, or miss, which costs a signature's verification.",
            &["outcome"],
        );
        let reloads = registry.counter_vec(
            "plumbline_gateway_access_keys_reloads_total",
            "Changes of the API keys' file: replaced, or refused, so that the keys from before are used.",
            &["outcome"],
        );
        Self {
            by_key: decided("identified", "key"),
            by_token: decided("identified", "token"),
            by_certificate: decided("identified", "certificate"),
            anonymous: decided("identified", "anonymous"),
            refused: Refusal::ALL.map(|refusal| decided("refused", refusal.label())),
            forbidden: decided("forbidden", "policy"),
            limited: decided("limited", "rate"),
            forgotten: registry.counter(
                "plumbline_gateway_rate_limit_forgotten_total",
                "Clients whose use of their rate was forgotten because too many others were active.",
            ),
            cache_hits: cache.with_label_values(&["hit"]),
            cache_misses: cache.with_label_values(&["miss"]),
            keys: registry.int_gauge("plumbline_gateway_access_keys", "API keys in the file."),
            keys_replaced: reloads.with_label_values(&["replaced"]),
            keys_refused: reloads.with_label_values(&["refused"]),
            issuer_keys: registry.int_gauge_vec(
                "plumbline_gateway_issuer_keys",
                "Usable keys of an issuer of tokens; 0 while its tokens cannot be verified.",
                &["issuer"],
            ),
            issuer_success: registry.int_gauge_vec(
                "plumbline_gateway_issuer_keys_last_success_timestamp_seconds",
                "When an issuer's keys were last got, in seconds since 1970.",
                &["issuer"],
            ),
            issuer_fetches: registry.counter_vec(
                "plumbline_gateway_issuer_keys_fetches_total",
                "Attempts to get an issuer's keys: fetched or failed.",
                &["issuer", "outcome"],
            ),
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> &IntCounter {
        &self.refused[refusal as usize]
    }

    /// The handles of an issuer.
    pub(crate) fn issuer(&self, issuer: &str) -> IssuerMetrics {
        IssuerMetrics {
            keys: self.issuer_keys.with_label_values(&[issuer]),
            last_success: self.issuer_success.with_label_values(&[issuer]),
            fetched: self.issuer_fetches.with_label_values(&[issuer, "fetched"]),
            failed: self.issuer_fetches.with_label_values(&[issuer, "failed"]),
        }
    }
}
