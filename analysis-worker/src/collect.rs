//! Gathers what is known about an incident, within a deadline and a size.
//!
//! Each source gives facts or says why it has none; a late or broken one never holds up the others.

pub(crate) mod logs;
pub(crate) mod pipeline;
mod prometheus;
pub(crate) mod sidecar;
mod stored;

use crate::config::Sources;
use crate::drift::Drift;
use crate::evidence::{Context, Missing, Source};
use crate::http::HttpClient;
use crate::metrics::{Collected, Metrics};
use crate::redact::{Redaction, Redactor};
use crate::signal::{DRIFT, now};
use crate::store::SignalRow;
use crate::text::{prefix, sanitise};

/// Most bytes of one fact.
const MAX_FACT: usize = 48 << 10;

/// What the context is gathered for.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// `drift`, or the name of the alert.
    pub(crate) kind: String,
    /// Name of the model, where the signals tell it.
    pub(crate) model: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub(crate) started_at: i64,
}

/// A fact before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    title: String,
    content: String,
}

/// Asks the sources.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    sources: Sources,
    http: HttpClient,
    redactor: Redactor,
    metrics: Metrics,
}

impl Collector {
    pub(crate) fn new(sources: Sources, http: HttpClient, redactor: Redactor, metrics: Metrics) -> Self {
        Self {
            sources,
            http,
            redactor,
            metrics,
        }
    }

    /// Everything that can be had about `about`, whose signals are `signals`.
    pub(crate) async fn collect(&self, about: &About, signals: &[SignalRow]) -> Context {
        let mut context = Context::default();
        let stored = stored::facts(signals);
        let texts = stored
            .alerts
            .iter()
            .flat_map(|fact| [fact.title.as_str(), fact.content.as_str()]);
        let mut redaction = self.redactor.begin(texts);
        let deadline = tokio::time::Instant::now() + self.sources.timeout;
        let wants_drift = about.kind == DRIFT || about.model.is_some();
        let (drift, series, logs) = tokio::join!(
            async {
                if !wants_drift {
                    return None;
                }
                let asked = sidecar::ask(&self.http, &self.sources, about, stored.source.as_deref());
                Some(by(deadline, Source::DriftState, asked).await)
            },
            async {
                let base = self.sources.prometheus.as_ref()?;
                let asked = prometheus::ask(&self.http, base, about, self.sources.timeout);
                Some(by(deadline, Source::Prometheus, asked).await)
            },
            async {
                if self.sources.logs.is_empty() {
                    return None;
                }
                let read = logs::read(self.sources.clone(), about.started_at, self.redactor.clone());
                Some(by(deadline, Source::Logs, read).await)
            },
        );
        for fact in stored.alerts {
            self.add(&mut context, Source::Alert, &fact, None);
        }
        for fact in stored.canaries {
            self.add(&mut context, Source::CanaryEvent, &fact, None);
        }
        self.drift(&mut context, stored.drift, drift, &mut redaction);
        match series {
            Some(Ok((facts, gaps))) => {
                for fact in facts {
                    self.add(&mut context, Source::Prometheus, &fact, Some(&mut redaction));
                }
                for gap in gaps {
                    self.missing(&mut context, Source::Prometheus, &gap);
                }
            }
            Some(Err(reason)) => self.missing(&mut context, Source::Prometheus, &reason),
            None => self.missing(&mut context, Source::Prometheus, "not configured (prometheus)"),
        }
        match logs {
            Some(Ok(found)) => {
                for fact in found.facts {
                    // Redacted before it was cut down; see there.
                    self.add(&mut context, Source::Logs, &fact, None);
                }
                self.metrics.redacted(found.redactions);
                for gap in found.gaps {
                    self.missing(&mut context, Source::Logs, &gap);
                }
            }
            Some(Err(reason)) => self.missing(&mut context, Source::Logs, &reason),
            None => self.missing(&mut context, Source::Logs, "not configured (logs)"),
        }
        self.metrics.redacted(redaction.count());
        context
    }

    /// The comparison that the event carried, and the one that the sidecar has now; the newer is analysed.
    fn drift(
        &self,
        context: &mut Context,
        told: Option<Drift>,
        asked: Option<Result<Drift, String>>,
        redaction: &mut Redaction,
    ) {
        let now = match asked {
            Some(Ok(drift)) => Some(redacted(&drift, redaction)),
            Some(Err(reason)) => {
                self.missing(context, Source::DriftState, &reason);
                None
            }
            None => None,
        };
        // An event that told of drift outweighs a window that has calmed down since: the report is about the event.
        let (source, mut drift) = match (told, now) {
            (Some(told), Some(now)) if now.state >= told.state => (
                Source::DriftState,
                Drift {
                    started_at: told.started_at,
                    episode: told.episode,
                    ..now
                },
            ),
            (Some(told), Some(now)) => {
                self.add(
                    context,
                    Source::DriftState,
                    &Fact {
                        title: "comparison now".to_owned(),
                        content: now.describe(),
                    },
                    None,
                );
                (Source::DriftEvent, told)
            }
            (Some(told), None) => (Source::DriftEvent, told),
            (None, Some(now)) => (Source::DriftState, now),
            (None, None) => return,
        };
        let summary = Fact {
            title: format!("comparison of {} with its reference", drift.model),
            content: drift.describe(),
        };
        self.add(context, source, &summary, None);
        for subject in drift
            .subjects
            .iter_mut()
            .filter(|subject| !subject.bins.is_empty() || subject.psi.is_some())
        {
            let role = match subject.role {
                crate::drift::Role::Feature => "feature",
                crate::drift::Role::Output => "output",
            };
            let fact = Fact {
                title: format!("{role} {}", subject.name),
                content: subject.describe(),
            };
            subject.evidence = self.add(context, source, &fact, None);
        }
        context.drift = Some(drift);
    }

    fn add(
        &self,
        context: &mut Context,
        source: Source,
        fact: &Fact,
        redaction: Option<&mut Redaction>,
    ) -> String {
        self.metrics.collected(source, Collected::Found);
        let (mut title, mut content) = (sanitise(&fact.title), sanitise(&fact.content));
        if let Some(redaction) = redaction {
            (title, content) = (redaction.text(&title), redaction.text(&content));
        }
        if content.len() > MAX_FACT {
            let cut = content.len() - MAX_FACT;
            content = format!("{}\n… {cut} bytes left out", prefix(&content, MAX_FACT));
        }
        context.add(source, crate::text::one_line(&title, 160), content)
    }

    fn missing(&self, context: &mut Context, source: Source, reason: &str) {
        self.metrics.collected(source, Collected::Missing);
        context.missing(source, reason);
    }

    /// A context with nothing but what the store has, for a job that did not finish before.
    pub(crate) fn stored_only(&self, signals: &[SignalRow]) -> Context {
        let mut context = Context::default();
        let stored = stored::facts(signals);
        for fact in stored.alerts {
            self.add(&mut context, Source::Alert, &fact, None);
        }
        self.drift(&mut context, stored.drift, None, &mut self.redactor.begin([]));
        for source in [Source::DriftState, Source::Prometheus, Source::Logs] {
            context.missing.push(Missing {
                source,
                reason: "not asked: earlier tries of this analysis did not finish".to_owned(),
            });
        }
        context
    }
}

/// The answer, or that it was late.
async fn by<T>(
    deadline: tokio::time::Instant,
    source: Source,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout_at(deadline, asked)
        .await
        .unwrap_or_else(|_| Err(format!("{} did not answer in time", source.title())))
}

/// Names and categories come from data; they go through the same hands as every other text.
fn redacted(drift: &Drift, redaction: &mut Redaction) -> Drift {
    let Ok(mut document) = serde_json::to_value(drift) else {
        return drift.clone();
    };
    redaction.json(&mut document);
    serde_json::from_value(document).unwrap_or_else(|_| drift.clone())
}

/// Milliseconds from `from` until now, at least 0.
fn age(from: i64) -> i64 {
    (now() - from).max(0)
}
