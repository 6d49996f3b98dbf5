//! One analysis: context, findings, validation, report.

use std::sync::Arc;

use crate::collect::pipeline::{PipelineCollector, RunToTriage};
use crate::collect::{About, Collector};
use crate::config::Config;
use crate::evidence::Context;
use crate::github::GitHub;
use crate::http::HttpClient;
use crate::metrics::{Author, Metrics};
use crate::provider::prompt::{self, Prompt};
use crate::provider::{Case, Model, ProviderError, offline};
use crate::redact::Redactor;
use crate::report::validate::{self, Expected, Refused};
use crate::report::{Analysis, Findings, Outcome, Report, SCHEMA, Subject, Urgency, markdown, schema};
use crate::signal::{digest, now, rfc3339};
use crate::store::{Finished, SignalRow, Store};
use crate::text::{one_line, sanitise};

/// What is analysed.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) subject: Subject,
    pub(crate) started_at: i64,
    pub(crate) urgency: Urgency,
    pub(crate) revision: u32,
    pub(crate) signals: Vec<SignalRow>,
}

/// A finished analysis.
#[derive(Clone, Debug)]
pub(crate) struct Analysed {
    pub(crate) report: Report,
    pub(crate) markdown: String,
    /// What was sent, if anything was.
    pub(crate) prompt: Option<String>,
    /// What came back, before validation.
    pub(crate) answer: Option<String>,
    /// Tokens that were used, as the provider counts them.
    pub(crate) tokens: u64,
}

impl Analysed {
    /// As the store keeps it.
    pub(crate) fn to_store(&self) -> Finished {
        Finished {
            report: self.report.clone(),
            prompt: self.prompt.clone(),
            answer: self.answer.clone(),
            tokens: self.tokens,
            markdown: self.markdown.clone(),
        }
    }

    /// Who wrote it, for the metric.
    pub(crate) fn author(&self) -> Author {
        match &self.report.analysis.fallback {
            Some(_) => Author::Fallback,
            None if self.report.analysis.model.is_some() => Author::Model,
            None => Author::Offline,
        }
    }
}

/// Analyses. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Analyst {
    collector: Arc<Collector>,
    pipelines: PipelineCollector,
    model: Option<Model>,
    redactor: Redactor,
}

impl Analyst {
    /// Without a `store`, what the provider was asked is forgotten with the process.
    pub(crate) fn new(config: &Config, redactor: Redactor, metrics: &Metrics, store: Option<Store>) -> Self {
        let http = HttpClient::new();
        let pipelines = PipelineCollector {
            github: GitHub::new(&config.github, http.clone()),
            redactor: redactor.clone(),
            metrics: metrics.clone(),
            log_budget: config.sources.log_budget,
        };
        let collector = Collector::new(
            config.sources.clone(),
            http.clone(),
            redactor.clone(),
            metrics.clone(),
        );
        let model = Model::configured(&config.provider, http, store, redactor.clone(), metrics.clone());
        Self {
            collector: Arc::new(collector),
            pipelines,
            model,
            redactor,
        }
    }

    /// Who gathers what is known about failed pipelines.
    pub(crate) fn pipelines(&self) -> &PipelineCollector {
        &self.pipelines
    }

    /// Asks whether the provider knows its model.
    pub(crate) fn check(&self) -> impl Future<Output = ()> + Send + 'static {
        let model = self.model.clone();
        async move {
            if let Some(model) = model {
                model.check().await;
            }
        }
    }

    /// Makes sure that the sources that need more than an address can be asked.
    ///
    /// # Errors
    /// One of them cannot, whatever is tried later.
    pub(crate) async fn connect(&self) -> anyhow::Result<()> {
        self.collector.connect().await
    }

    /// Gathers the context. `careful` asks nobody: earlier tries did not come to an end.
    pub(crate) async fn collect(&self, task: &Task, careful: bool) -> Context {
        if let Some(run) = RunToTriage::of(&task.signals) {
            return if careful {
                self.pipelines.told_only(&run)
            } else {
                self.pipelines.run(&run).await
            };
        }
        if careful {
            return self.collector.stored_only(&task.signals);
        }
        let about = About {
            kind: task.subject.kind.clone(),
            model: task.subject.model.clone(),
            started_at: task.started_at,
        };
        self.collector.collect(&about, &task.signals).await
    }

    /// Makes the report. Always: when the provider has no usable answer, code writes it and says so.
    pub(crate) async fn conclude(&self, task: &Task, context: Context, careful: bool) -> Analysed {
        let of_pipeline = context.pipeline.as_ref().map(crate::triage::Pipeline::urgency);
        let case = Case {
            subject: task.subject.clone(),
            urgency: of_pipeline.map_or(task.urgency, |urgency| urgency.min(task.urgency)),
            context,
        };
        let model = self.model.as_ref().filter(|_| !case.context.evidence.is_empty());
        match model {
            None => without_model(case, task, None, Attempt::default()),
            Some(_) if careful => {
                let reason = "earlier tries of this analysis did not finish".to_owned();
                without_model(case, task, Some(reason), Attempt::default())
            }
            Some(model) => self.with_model(model, case, task).await,
        }
    }

    async fn with_model(&self, model: &Model, case: Case, task: &Task) -> Analysed {
        let schema = match case.expected() {
            Expected::Incident => schema::incident(),
            Expected::Drift => schema::drift(),
            Expected::Triage => schema::triage(),
        };
        let deadline = model.deadline();
        let mut refused: Option<Refused> = None;
        let mut attempt = Attempt::default();
        // The answer, and one repair of it.
        for outcome in [Outcome::Valid, Outcome::Repaired] {
            let prompt = prompt::build(&case, refused.as_ref());
            let answer = model.ask(&prompt, &schema, deadline, &mut attempt.tokens).await;
            attempt.prompt = Some(prompt);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return self.fall_back(case, task, &error, attempt),
            };
            attempt.answer = Some(answer.clone());
            match validated(&case, &answer) {
                Ok((findings, notes)) => {
                    let outcome = match outcome {
                        Outcome::Valid if !notes.is_empty() => Outcome::Corrected,
                        outcome => outcome,
                    };
                    let analysis = Analysis {
                        provider: model.provider().to_owned(),
                        model: Some(model.name().to_owned()),
                        fallback: None,
                        outcome,
                        notes,
                        prompt_digest: attempt.digest(&case.context),
                    };
                    return finished(case, task, findings, analysis, attempt);
                }
                Err(reason) => {
                    model.refused();
                    tracing::warn!(incident.id = task.subject.id, error = %reason, "the provider's answer was refused");
                    refused = Some(reason);
                }
            }
        }
        let reason = refused.map_or_else(String::new, |reason| reason.to_string());
        self.fall_back(case, task, &ProviderError::Refused(reason), attempt)
    }

    fn fall_back(&self, case: Case, task: &Task, error: &ProviderError, attempt: Attempt) -> Analysed {
        let reason = one_line(&sanitise(&error.to_string()), 300);
        let reason = self.redact(&reason, &case.context);
        without_model(case, task, Some(reason), attempt)
    }

    fn redact(&self, text: &str, context: &Context) -> String {
        let known = context.evidence.iter().map(|fact| fact.content.as_str());
        self.redactor.begin(known).text(text)
    }
}

/// What was sent and what came back.
#[derive(Debug, Default)]
struct Attempt {
    prompt: Option<Prompt>,
    answer: Option<String>,
    /// That were used, failed requests included.
    tokens: u64,
}

impl Attempt {
    fn digest(&self, context: &Context) -> String {
        if let Some(prompt) = &self.prompt {
            return prompt.digest.clone();
        }
        let facts: Vec<&str> = context
            .evidence
            .iter()
            .map(|fact| fact.content.as_str())
            .collect();
        digest(&facts)
    }
}

fn validated(case: &Case, answer: &str) -> Result<(Findings, Vec<String>), Refused> {
    let mut findings = validate::parse(case.expected(), answer)?;
    let notes = validate::check(&mut findings, &case.context, case.urgency)?;
    Ok((findings, notes))
}

fn without_model(case: Case, task: &Task, fallback: Option<String>, attempt: Attempt) -> Analysed {
    let mut findings = offline::analyse(&case);
    // Code is held to the same rules; without any fact there is nothing to hold it against.
    let notes = validate::check(&mut findings, &case.context, case.urgency)
        .unwrap_or_else(|error| vec![error.to_string()]);
    let analysis = Analysis {
        provider: "offline".to_owned(),
        model: None,
        fallback,
        outcome: if notes.is_empty() {
            Outcome::Valid
        } else {
            Outcome::Corrected
        },
        notes,
        prompt_digest: attempt.digest(&case.context),
    };
    finished(case, task, findings, analysis, attempt)
}

fn finished(case: Case, task: &Task, findings: Findings, analysis: Analysis, attempt: Attempt) -> Analysed {
    let report = Report {
        schema: SCHEMA.to_owned(),
        incident: case.subject,
        revision: task.revision,
        created_at: rfc3339(now()),
        urgency: case.urgency,
        analysis,
        findings,
        evidence: case.context.evidence,
        missing: case.context.missing,
        drift: case.context.drift,
    };
    Analysed {
        markdown: markdown::render(&report),
        report,
        prompt: attempt.prompt.map(|prompt| prompt.text),
        answer: attempt.answer,
        tokens: attempt.tokens,
    }
}
