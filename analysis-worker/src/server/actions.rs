//! What was decided and done about an incident, as a part of its page.

use maud::{Markup, html};

use super::api::LIST;
use super::forms::form;
use super::{Shared, approvals, outbox};
use crate::action::title_of;
use crate::policy::Verdict;
use crate::report::Report;
use crate::store::{DecisionRow, EffectRow, Retraining, StoreError};

/// What was decided and done about an incident.
pub(super) struct Actions {
    decisions: Vec<DecisionRow>,
    effects: Vec<EffectRow>,
    retraining: Option<Retraining>,
}

impl Actions {
    pub(super) async fn of(shared: &Shared, incident: &str) -> Result<Self, StoreError> {
        Ok(Self {
            decisions: shared.store.decisions(incident, LIST).await?,
            effects: shared.store.effects(Some(incident.to_owned()), LIST).await?,
            retraining: shared.store.retraining(incident).await?,
        })
    }

    pub(super) fn show(&self, shared: &Shared, report: Option<&Report>) -> Markup {
        html! {
            @if !self.decisions.is_empty() {
                h2 { "What policy decided" }
                @if let Some(retraining) = &self.retraining { (approvals::card(shared, retraining)) }
                div.card.scroll {
                    table {
                        thead {
                            tr {
                                th.number scope="col" { "Revision" } th scope="col" { "Action" }
                                th scope="col" { "Verdict" } th scope="col" { "Why" }
                            }
                        }
                        tbody {
                            @for decision in &self.decisions {
                                tr {
                                    td.number { (decision.revision) }
                                    td { (title_of(&decision.action)) }
                                    td { (Verdict::title(&decision.verdict)) }
                                    td.title { (decision.reasons.join("; ")) }
                                }
                            }
                        }
                    }
                }
            }
            @if !self.effects.is_empty() {
                h2 { "What was done outside" }
                (outbox::table(&self.effects))
            }
            @if let Some(report) = report {
                h2 { "Was this report right?" }
                div.card {
                    (form(shared, "verdict", &format!("/incidents/{}/verdict", report.incident.id), &html! {
                        input type="hidden" name="revision" value=(report.revision);
                        button name="verdict" value="useful" { "Useful" }
                        button.second name="verdict" value="wrong_cause" { "Wrong cause" }
                    }))
                }
            }
        }
    }
}
