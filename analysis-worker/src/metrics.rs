//! Every series that the worker exports. A name, label or bucket is written here or nowhere.

mod actions;

use std::collections::BTreeMap;
use std::time::Duration;

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{Histogram, IntCounter, IntGauge};

pub(crate) use actions::{ActionMetrics, ApprovalOutcome, EffectOutcome, VerdictKind};

use crate::evidence::Source;
use crate::follow::{FollowOutcome, InterventionKind};

/// A closed set of label values.
pub(crate) trait Label: Copy + Ord + 'static {
    const ALL: &'static [Self];
    fn label(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $Name:ident { $($(#[$variant_doc:meta])* $Variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $Name { $($(#[$variant_doc])* $Variant),* }

        impl Label for $Name {
            const ALL: &'static [Self] = &[$(Self::$Variant),*];
            fn label(self) -> &'static str {
                match self { $(Self::$Variant => $text),* }
            }
        }
    };
}

pub(crate) use label;

label! {
    /// Where a signal came in.
    Intake {
        Alerts = "alerts",
        Events = "events",
        GitHub = "github",
        Slack = "slack",
        /// Alerts that Prometheus was asked for.
        Backfill = "backfill",
    }
}

label! {
    /// What a webhook of GitHub told.
    Delivered {
        /// A run that failed.
        Failed = "failed",
        /// A run that succeeded.
        Green = "green",
        /// GitHub tried the address.
        Ping = "ping",
        /// Something else.
        Other = "other",
    }
}

label! {
    /// Why a request with signals was refused.
    Rejection {
        /// No or a wrong token.
        Unauthorized = "unauthorized",
        /// Larger than the limit.
        TooLarge = "too_large",
        /// Not what the endpoint takes.
        Malformed = "malformed",
        /// The store could not commit.
        Store = "store",
    }
}

label! {
    /// What became of a signal.
    Received { New = "new", Duplicate = "duplicate" }
}

label! {
    /// What became of asking for missed alerts.
    Backfilled {
        Done = "done",
        /// Tried again.
        Failed = "failed",
        /// Nobody to ask.
        Off = "off",
    }
}

label! {
    /// States of a job.
    JobState { Queued = "queued", Running = "running", Failed = "failed" }
}

label! {
    /// What asking a provider came to.
    ProviderOutcome {
        /// An answer that passed validation.
        Answered = "answered",
        /// An answer that validation refused.
        Refused = "refused",
        /// Blocked, empty or cut.
        Empty = "empty",
        /// 429.
        RateLimited = "rate_limited",
        /// 5xx.
        Unavailable = "unavailable",
        /// Key, model or request refused.
        Rejected = "rejected",
        /// No connection, or not HTTP.
        Transport = "transport",
        /// No answer in time.
        Timeout = "timeout",
        /// Not asked: an earlier refusal still holds.
        Paused = "paused",
        /// Not asked: the hour's or day's budget is used.
        Budget = "budget",
        /// Not asked: the same was answered before.
        Cached = "cached",
    }
}

label! {
    /// What a collector came to.
    Collected { Found = "found", Missing = "missing" }
}

label! {
    /// Who wrote a report.
    Author { Model = "model", Offline = "offline", Fallback = "fallback" }
}

type Counters<K> = BTreeMap<K, IntCounter>;

/// Handles, resolved at start.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    received: Counters<(Intake, Received)>,
    rejected: Counters<(Intake, Rejection)>,
    deliveries: Counters<Delivered>,
    gap: IntGauge,
    backfills: Counters<Backfilled>,
    jobs: BTreeMap<JobState, IntGauge>,
    reports: Counters<Author>,
    report_seconds: Histogram,
    provider_requests: Counters<ProviderOutcome>,
    provider_seconds: Histogram,
    provider_tokens: IntCounter,
    collected: BTreeMap<(&'static str, Collected), IntCounter>,
    redactions: IntCounter,
    interventions: Counters<(InterventionKind, FollowOutcome)>,
    /// Of what is done outside.
    pub(crate) actions: ActionMetrics,
}

impl Metrics {
    pub(crate) fn declare(registry: &Registry) -> Self {
        let received = registry.counter_vec(
            "plumbline_worker_signals_total",
            "Alerts and events that were committed to the store, new ones and repetitions.",
            &["intake", "kind"],
        );
        let rejected = registry.counter_vec(
            "plumbline_worker_rejected_total",
            "Requests with alerts or events that were refused.",
            &["intake", "reason"],
        );
        let deliveries = registry.counter_vec(
            "plumbline_worker_github_deliveries_total",
            "Webhooks of GitHub with a right signature, by what they told.",
            &["told"],
        );
        let backfills = registry.counter_vec(
            "plumbline_worker_backfills_total",
            "Pauses of the worker for which Prometheus was asked what fired in them, by outcome.",
            &["outcome"],
        );
        let jobs = registry.int_gauge_vec(
            "plumbline_worker_jobs",
            "Analyses that wait, run, or were given up.",
            &["state"],
        );
        let reports = registry.counter_vec(
            "plumbline_worker_reports_total",
            "Finished reports by author; fallback is an offline report after the provider failed.",
            &["author"],
        );
        let provider = registry.counter_vec(
            "plumbline_worker_provider_requests_total",
            "Requests to the language model by outcome.",
            &["outcome"],
        );
        let collected = registry.counter_vec(
            "plumbline_worker_collected_total",
            "Context sources asked, by whether they gave something.",
            &["source", "outcome"],
        );
        let interventions = registry.counter_vec(
            "plumbline_worker_interventions_total",
            "What was done about incidents, once as watching and once by what came of it.",
            &["kind", "outcome"],
        );
        Self {
            received: pairs(|a: Intake, b: Received| received.with_label_values(&[a.label(), b.label()])),
            rejected: pairs(|a: Intake, b: Rejection| rejected.with_label_values(&[a.label(), b.label()])),
            deliveries: singles(|told: Delivered| deliveries.with_label_values(&[told.label()])),
            gap: registry.int_gauge(
                "plumbline_worker_gap_seconds",
                "Since when alerts may have been missed that were not asked for yet; 0 when there are none.",
            ),
            backfills: singles(|outcome: Backfilled| backfills.with_label_values(&[outcome.label()])),
            jobs: singles(|state: JobState| jobs.with_label_values(&[state.label()])),
            reports: singles(|author: Author| reports.with_label_values(&[author.label()])),
            report_seconds: registry.histogram(
                "plumbline_worker_report_duration_seconds",
                "From the commit of the signal that asked for a report to the commit of the report.",
                &[
                    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
                ],
            ),
            provider_requests: singles(|outcome: ProviderOutcome| {
                provider.with_label_values(&[outcome.label()])
            }),
            provider_seconds: registry.histogram(
                "plumbline_worker_provider_duration_seconds",
                "Time of one request to the language model.",
                &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0],
            ),
            provider_tokens: registry.counter(
                "plumbline_worker_provider_tokens_total",
                "Tokens of prompts and answers, as the provider counts them or, where it does not, as they are estimated.",
            ),
            collected: Source::ALL
                .iter()
                .flat_map(|source| {
                    Collected::ALL
                        .iter()
                        .map(move |outcome| (source.as_str(), *outcome))
                })
                .map(|(source, outcome)| {
                    (
                        (source, outcome),
                        collected.with_label_values(&[source, outcome.label()]),
                    )
                })
                .collect(),
            interventions: pairs(|kind: InterventionKind, outcome: FollowOutcome| {
                interventions.with_label_values(&[kind.label(), outcome.label()])
            }),
            redactions: registry.counter(
                "plumbline_worker_redactions_total",
                "Secrets and personal data taken out of texts.",
            ),
            actions: ActionMetrics::declare(registry),
        }
    }

    pub(crate) fn received(&self, intake: Intake, kind: Received, count: u64) {
        self.received[&(intake, kind)].inc_by(count);
    }

    pub(crate) fn rejected(&self, intake: Intake, reason: Rejection) {
        self.rejected[&(intake, reason)].inc();
    }

    pub(crate) fn delivered(&self, told: Delivered) {
        self.deliveries[&told].inc();
    }

    /// Requests with alerts that the store could not take, so far.
    pub(crate) fn refused_by_store(&self) -> u64 {
        self.rejected[&(Intake::Alerts, Rejection::Store)].get()
    }

    pub(crate) fn gap(&self, gap: Duration) {
        self.gap.set(i64::try_from(gap.as_secs()).unwrap_or(i64::MAX));
    }

    pub(crate) fn backfill(&self, outcome: Backfilled) {
        self.backfills[&outcome].inc();
    }

    pub(crate) fn jobs(&self, state: JobState, count: i64) {
        self.jobs[&state].set(count);
    }

    pub(crate) fn report(&self, author: Author, duration: Duration) {
        self.reports[&author].inc();
        self.report_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn provider(&self, outcome: ProviderOutcome, duration: Duration) {
        self.provider_requests[&outcome].inc();
        // The others are verdicts, not requests.
        let asked = !matches!(
            outcome,
            ProviderOutcome::Paused
                | ProviderOutcome::Refused
                | ProviderOutcome::Budget
                | ProviderOutcome::Cached
        );
        if asked {
            self.provider_seconds.observe(duration.as_secs_f64());
        }
    }

    pub(crate) fn provider_tokens(&self, count: u64) {
        self.provider_tokens.inc_by(count);
    }

    pub(crate) fn collected(&self, source: Source, outcome: Collected) {
        self.collected[&(source.as_str(), outcome)].inc();
    }

    pub(crate) fn followed(&self, kind: InterventionKind, outcome: FollowOutcome) {
        self.interventions[&(kind, outcome)].inc();
    }

    pub(crate) fn redacted(&self, count: u64) {
        self.redactions.inc_by(count);
    }
}

fn singles<A: Label, T>(make: impl Fn(A) -> T) -> BTreeMap<A, T> {
    A::ALL.iter().map(|a| (*a, make(*a))).collect()
}

fn pairs<A: Label, B: Label, T>(make: impl Fn(A, B) -> T) -> BTreeMap<(A, B), T> {
    A::ALL
        .iter()
        .flat_map(|a| B::ALL.iter().map(move |b| (*a, *b)))
        .map(|(a, b)| ((a, b), make(a, b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_documented() {
        let registry = Registry::default();
        Metrics::declare(&registry);
        plumbline_testkit::documentation::assert_metrics_documented(
            "analysis-worker",
            &registry.documentation(),
        );
    }

    #[test]
    fn closed_sets_are_visible_as_zero() {
        let registry = Registry::default();
        let metrics = Metrics::declare(&registry);
        metrics.rejected(Intake::Events, Rejection::Malformed);
        let text = String::from_utf8(registry.render()).expect("text");
        assert!(
            text.contains(r#"plumbline_worker_rejected_total{intake="events",reason="malformed"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"plumbline_worker_provider_requests_total{outcome="paused"} 0"#));
        assert!(text.contains(r#"plumbline_worker_collected_total{outcome="missing",source="logs"} 0"#));
        assert!(
            registry
                .declared()
                .iter()
                .all(|d| d.name.starts_with("plumbline_worker_"))
        );
    }
}
