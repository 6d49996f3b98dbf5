//! Of what is done outside: effects, approvals, verdicts, and the books.

use std::collections::BTreeMap;

use plumbline_service::metrics::Metrics as Registry;
use prometheus::IntGauge;

use super::{Counters, Label, label, pairs, singles};
use crate::action::Action;
use crate::store::{EffectCount, Ledger};

label! {
    /// What trying to make an effect came to.
    EffectOutcome {
        /// It is made.
        Made = "made",
        /// An earlier try had made it.
        Found = "found",
        /// It is tried again.
        Retried = "retried",
        /// It was given up.
        Dead = "dead",
    }
}

label! {
    /// States of an effect that is not made.
    EffectState { Waiting = "waiting", Queued = "queued", Dead = "dead" }
}

label! {
    /// What a person says of a report.
    VerdictKind { Useful = "useful", WrongCause = "wrong_cause" }
}

label! {
    /// What a person's decision on a request for approval came to.
    ApprovalOutcome { Approved = "approved", Rejected = "rejected", Refused = "refused" }
}

label! {
    /// What became of the deliveries of signals.
    Fate {
        Received = "received",
        Analysed = "analysed",
        Suppressed = "suppressed",
        Pending = "pending",
        Failed = "failed",
    }
}

/// Handles, resolved at start.
#[derive(Clone, Debug)]
pub(crate) struct ActionMetrics {
    effects_total: Counters<(Action, EffectOutcome)>,
    effects: BTreeMap<(Action, EffectState), IntGauge>,
    approvals: Counters<ApprovalOutcome>,
    verdicts: Counters<VerdictKind>,
    ledger: BTreeMap<Fate, IntGauge>,
}

impl ActionMetrics {
    pub(super) fn declare(registry: &Registry) -> Self {
        let effects_total = registry.counter_vec(
            "plumbline_worker_effects_total",
            "Tries to make an effect outside, by action and what came of it; found is one that an earlier try had made.",
            &["action", "outcome"],
        );
        let effects = registry.int_gauge_vec(
            "plumbline_worker_effects",
            "Effects that wait for approval, are queued, or were given up.",
            &["action", "state"],
        );
        let approvals = registry.counter_vec(
            "plumbline_worker_approvals_total",
            "Decisions of people on requests for approval; refused is one that did not count: too late, twice, or of something else.",
            &["outcome"],
        );
        let verdicts = registry.counter_vec(
            "plumbline_worker_verdicts_total",
            "What people said of reports.",
            &["verdict"],
        );
        let ledger = registry.int_gauge_vec(
            "plumbline_worker_ledger",
            "Deliveries of signals in the store: those received, and what became of them; received is the sum of the others, or some are lost.",
            &["state"],
        );
        Self {
            effects_total: pairs(|a: Action, b: EffectOutcome| {
                effects_total.with_label_values(&[a.label(), b.label()])
            }),
            effects: pairs(|a: Action, b: EffectState| effects.with_label_values(&[a.label(), b.label()])),
            approvals: singles(|outcome: ApprovalOutcome| approvals.with_label_values(&[outcome.label()])),
            verdicts: singles(|verdict: VerdictKind| verdicts.with_label_values(&[verdict.label()])),
            ledger: singles(|state: Fate| ledger.with_label_values(&[state.label()])),
        }
    }

    pub(crate) fn effect(&self, action: Action, outcome: EffectOutcome) {
        self.effects_total[&(action, outcome)].inc();
    }

    /// Sets every gauge of effects: those that are not counted are 0.
    pub(crate) fn effects(&self, counts: &[EffectCount]) {
        for ((action, state), gauge) in &self.effects {
            let of = |count: &&EffectCount| count.action == *action && count.state == state.label();
            gauge.set(counts.iter().find(of).map_or(0, |count| count.count));
        }
    }

    pub(crate) fn approval(&self, outcome: ApprovalOutcome) {
        self.approvals[&outcome].inc();
    }

    pub(crate) fn verdict(&self, verdict: VerdictKind) {
        self.verdicts[&verdict].inc();
    }

    pub(crate) fn ledger(&self, ledger: &Ledger) {
        for (state, count) in [
            (Fate::Received, ledger.received),
            (Fate::Analysed, ledger.analysed),
            (Fate::Suppressed, ledger.suppressed),
            (Fate::Pending, ledger.pending),
            (Fate::Failed, ledger.failed),
        ] {
            self.ledger[&state].set(count);
        }
    }
}
