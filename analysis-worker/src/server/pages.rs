//! The pages: the list of incidents, and one incident with its report. No JavaScript; everything is escaped by maud.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use super::actions::Actions;
use super::api::{LIST, SIGNALS};
use super::layout::{page, state, time, urgency};
use super::{Shared, interventions, plot};
use crate::drift::{Drift, whole_percent};
use crate::report::{Citation, DriftFindings, Findings, IncidentFindings, Report, Risk, TriageFindings};
use crate::store::{IncidentRow, SignalRow, StoreError};

/// `GET /`
pub(super) async fn incidents(State(shared): State<Arc<Shared>>) -> Response {
    let incidents = match shared.store.incidents(LIST).await {
        Ok(incidents) => incidents,
        Err(error) => return broken(&shared, &error),
    };
    let working = incidents.iter().any(is_working);
    let open = incidents
        .iter()
        .filter(|incident| incident.resolved_at.is_none())
        .count();
    let content = html! {
        h1 { "Incidents" }
        @if incidents.is_empty() {
            div.card.empty {
                p.lead { "Nothing has happened yet." }
                p.quiet { "Alerts come in at " code { "/api/v1/alerts" } ", drift events at " code { "/api/v1/events" } "." }
            }
        } @else {
            p.quiet { (incidents.len()) " shown, newest first; " (open) " open." }
            div.card.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Urgency" }
                            th scope="col" { "What" }
                            th scope="col" { "Model" }
                            th scope="col" { "State" }
                            th.number scope="col" { "Signals" }
                            th scope="col" { "Since" }
                        }
                    }
                    tbody {
                        @for incident in &incidents {
                            tr {
                                td { (urgency(&incident.urgency)) }
                                td.title { a href=(format!("/incidents/{}", incident.id)) { (incident.title) } }
                                td { (incident.model.as_deref().unwrap_or("–")) }
                                td { (state(&incident.state)) }
                                td.number { (incident.signals) }
                                td { (time(&incident.started_at)) }
                            }
                        }
                    }
                }
            }
        }
    };
    page("Incidents", &shared.provider, working, &content)
}

/// `GET /incidents/{id}`
pub(super) async fn incident(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let read = async {
        let Some(incident) = shared.store.incident(&id).await? else {
            return Ok(None);
        };
        let signals = shared.store.signals(&id, SIGNALS).await?;
        let report = shared.store.report(&id).await?;
        let interventions = shared.store.interventions(&id).await?;
        let actions = Actions::of(&shared, &id).await?;
        Ok(Some((incident, signals, report, actions, interventions)))
    };
    let (incident, signals, report, actions, interventions) = match read.await {
        Ok(Some(found)) => found,
        Ok(None) => return missing(&shared),
        Err(error) => return broken(&shared, &error),
    };
    let report: Option<Report> = report.and_then(|(json, _)| serde_json::from_str(&json).ok());
    let content = html! {
        p.crumb { a href="/" { "Incidents" } " / " (incident.id) }
        (head(&incident, report.as_ref()))
        @match &report {
            Some(report) => (body(report)),
            None => (waiting(&incident)),
        }
        (actions.show(&shared, report.as_ref()))
        (interventions::list(&interventions))
        (signal_list(&signals))
    };
    page(&incident.title, &shared.provider, is_working(&incident), &content)
}

/// Any other path.
pub(super) async fn not_found(State(shared): State<Arc<Shared>>) -> Response {
    missing(&shared)
}

fn missing(shared: &Shared) -> Response {
    let content = html! { h1 { "Not found" } p { "There is no such page. " a href="/" { "All incidents" } } };
    let mut response = page("Not found", &shared.provider, false, &content);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

pub(super) fn broken(shared: &Shared, error: &StoreError) -> Response {
    tracing::error!(error = %plumbline_service::error_chain(error), "the store cannot be read");
    let content = html! { h1 { "Not now" } p { "The store cannot be read at the moment. Try again in a few seconds." } };
    let mut response = page("Not now", &shared.provider, false, &content);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn is_working(incident: &IncidentRow) -> bool {
    matches!(incident.state.as_str(), "received" | "collecting" | "analysing")
}

fn head(incident: &IncidentRow, report: Option<&Report>) -> Markup {
    html! {
        div.labels {
            (urgency(&incident.urgency))
            (state(&incident.state))
            @if let Some(report) = report { span.quiet { (report.urgency.title()) } }
        }
        h1 { (incident.title) }
        @if let Some(report) = report { p.lead { (report.findings.summary()) } }
        dl.facts {
            @if let Some(model) = &incident.model { dt { "Model" } dd { (model) } }
            dt { "Kind" } dd { (incident.kind) }
            dt { "Began" } dd { (time(&incident.started_at)) }
            @if let Some(at) = &incident.resolved_at { dt { "Over" } dd { (time(at)) } }
            @if let Some(report) = report {
                dt { "Report" }
                dd {
                    (time(&report.created_at)) ", revision " (report.revision) " · "
                    a href=(format!("/api/v1/incidents/{}/report.md", incident.id)) { "Markdown" } " · "
                    a href=(format!("/api/v1/incidents/{}/report.json", incident.id)) { "JSON" } " · "
                    a href=(format!("/api/v1/incidents/{}/postmortem.md", incident.id)) { "Postmortem" }
                }
                dt { "By" } dd { (author(report)) }
            }
        }
    }
}

fn author(report: &Report) -> String {
    let analysis = &report.analysis;
    match (&analysis.model, &analysis.fallback) {
        (_, Some(reason)) => {
            format!("offline analysis, because the provider gave no usable answer ({reason})")
        }
        (Some(model), None) => format!(
            "{} ({model}), answer {}",
            analysis.provider,
            analysis.outcome.as_str()
        ),
        (None, None) => "offline analysis: code, from the evidence alone".to_owned(),
    }
}

fn waiting(incident: &IncidentRow) -> Markup {
    html! {
        div.card {
            @if incident.state == "failed" {
                p { "The analysis was given up after several tries; the log says why. The signals below are kept." }
            } @else {
                p { "The analysis is under way (" (incident.state) "). This page reloads by itself." }
            }
        }
    }
}

fn body(report: &Report) -> Markup {
    html! {
        @match &report.findings {
            Findings::Incident(findings) => (causes_of_incident(findings)),
            Findings::Drift(findings) => (drift_findings(findings, report.drift.as_ref())),
            Findings::Triage(findings) => (triage(findings)),
        }
        @if let (Findings::Incident(_), Some(drift)) = (&report.findings, &report.drift) { (plots(drift)) }
        (evidence(report))
        @if !report.analysis.notes.is_empty() {
            h2 { "What validation changed" }
            ul.plain { @for note in &report.analysis.notes { li { (note) } } }
        }
    }
}

fn causes_of_incident(findings: &IncidentFindings) -> Markup {
    html! {
        h2 { "Possible causes" }
        ol.causes {
            @for cause in &findings.root_causes {
                li.card {
                    h3 { (cause.hypothesis) }
                    (meter(cause.confidence))
                    p { b { "Do: " } (cause.remediation.action) " " span.quiet { "(risk: " (risk(cause.remediation.risk)) ")" } }
                    @if let Some(command) = &cause.remediation.command { p { b { "Look: " } code { (command) } } }
                    (citations(&cause.evidence))
                }
            }
        }
    }
}

fn drift_findings(findings: &DriftFindings, drift: Option<&Drift>) -> Markup {
    html! {
        h2 { "Judgement" }
        div.card {
            h3 { "Kind: " (findings.kind.title()) }
            (meter(findings.confidence))
            @if !findings.affected.is_empty() {
                div.scroll {
                    table {
                        thead { tr { th scope="col" { "Affected, most first" } th scope="col" { "How" } th scope="col" { "Evidence" } } }
                        tbody {
                            @for affected in &findings.affected {
                                tr {
                                    td { b { (affected.subject) } }
                                    td.title { (affected.finding) }
                                    td { @for citation in &affected.evidence { (reference(&citation.id)) " " } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(drift) = drift { (plots(drift)) }
        h2 { "What to do" }
        div.card {
            ul.plain {
                @for remedy in &findings.remediation { li { b { (remedy.action.title()) } ": " (remedy.rationale) } }
            }
            @if !findings.action_items.is_empty() {
                h3 { "Next steps" }
                ul.plain { @for item in &findings.action_items { li { (item) } } }
            }
        }
        h2 { "Possible causes" }
        ol.causes {
            @for cause in &findings.causes {
                li.card { p { (cause.hypothesis) } (meter(cause.confidence)) (citations(&cause.evidence)) }
            }
        }
    }
}

fn triage(findings: &TriageFindings) -> Markup {
    html! {
        h2 { "Judgement" }
        div.card {
            h3 { "Failure: " (findings.failure_type.title()) }
            (meter(findings.confidence))
        }
        h2 { "Findings" }
        ol.causes {
            @for finding in &findings.findings {
                li.card {
                    h3 { (finding.priority.as_str()) " " (finding.title) }
                    (meter(finding.confidence))
                    p { (finding.explanation) }
                    p { b { "Risk: " } (finding.risk) }
                    p {
                        b { "Fix: " } (finding.fix.action)
                        @if let Some(file) = &finding.fix.file {
                            " " code { (file) @if let Some(line) = finding.fix.line { ":" (line) } }
                        }
                    }
                    p { b { "False positive? " } (finding.false_positive.verdict.title()) ": " (finding.false_positive.reason) }
                    (citations(&finding.evidence))
                }
            }
        }
    }
}

fn plots(drift: &Drift) -> Markup {
    let affected: Vec<_> = drift
        .affected()
        .filter(|subject| !subject.bins.is_empty())
        .take(12)
        .collect();
    html! {
        @if !affected.is_empty() {
            h2 { "Reference and now" }
            p.legend {
                span { span.key.reference aria-hidden="true" {} "reference, " (drift.reference_rows) " rows" }
                span { span.key.now aria-hidden="true" {} "now, " (drift.rows) " rows" }
            }
            div.plots {
                @for subject in affected {
                    figure.card {
                        h3 { (subject.name) }
                        figcaption {
                            (subject.state.as_str())
                            @if let Some(psi) = subject.psi { " · PSI " (crate::drift::number(psi)) }
                            @if let (Some(reference), Some(mean)) = (subject.reference_mean, subject.mean) {
                                " · mean " (crate::drift::number(reference)) " → " (crate::drift::number(mean))
                            }
                        }
                        (plot::subject(subject))
                    }
                }
            }
        }
    }
}

fn evidence(report: &Report) -> Markup {
    html! {
        h2 { "Evidence" }
        div.card {
            @for fact in &report.evidence {
                details.fact {
                    summary { b { (fact.id) } (fact.title) " " span.quiet { "(" (fact.source.title()) ")" } }
                    pre id=(fact.id) { (fact.content) }
                }
            }
            @if report.evidence.is_empty() { p { "None." } }
        }
        @if !report.missing.is_empty() {
            h2 { "What could not be had" }
            ul.plain {
                @for missing in &report.missing { li { b { (missing.source.title()) } ": " (missing.reason) } }
            }
        }
    }
}

fn signal_list(signals: &[SignalRow]) -> Markup {
    html! {
        h2 { "Signals" }
        div.card.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "What" } th scope="col" { "Status" } th scope="col" { "Began" }
                        th scope="col" { "Ended" } th.number scope="col" { "Times told" }
                    }
                }
                tbody {
                    @for signal in signals {
                        tr {
                            td.title { (signal.title) }
                            td { (signal.status) }
                            td { (time(&signal.starts_at)) }
                            td { @match &signal.ends_at { Some(at) => (time(at)), None => "–" } }
                            td.number { (signal.times_seen) }
                        }
                    }
                }
            }
        }
    }
}

/// A bar with its number: the number is what counts.
fn meter(confidence: f64) -> Markup {
    let width = (confidence.clamp(0.0, 1.0) * 118.0).round();
    html! {
        div.meter {
            svg width="120" height="10" aria-hidden="true" {
                rect.track x="0.5" y="0.5" width="119" height="9" rx="4.5" {}
                rect.fill x="1" y="1" width=(width) height="8" rx="4" {}
            }
            "confidence " (whole_percent(confidence))
        }
    }
}

fn citations(citations: &[Citation]) -> Markup {
    html! {
        div.cites {
            @for citation in citations {
                span { (reference(&citation.id)) @if let Some(quote) = &citation.quote { " " code { (quote) } } }
            }
        }
    }
}

fn reference(id: &str) -> Markup {
    html! { a href=(format!("#{id}")) { (id) } }
}

fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    }
}
