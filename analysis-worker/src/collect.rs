//! Gathers what is known about an incident, within a deadline and a size.
//!
//! Each source gives facts or says why it has none; a late or broken one never holds up the others.

mod kubernetes;
pub(crate) mod logs;
mod loki;
mod mlflow;
pub(crate) mod pipeline;
mod place;
mod prometheus;
pub(crate) mod sidecar;
mod stored;

use tokio::time::Instant;

use crate::config::Sources;
use crate::drift::Drift;
use crate::evidence::{Context, Missing, Source};
use crate::http::HttpClient;
use crate::metrics::{Collected, Metrics};
use crate::redact::{Redaction, Redactor};
use crate::signal::{DRIFT, now};
use crate::store::SignalRow;
use crate::text::{prefix, sanitise};
use kubernetes::Kubernetes;
use place::Place;

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

/// What a source came to: nothing when it is not configured or has no part in the incident.
type Asked = Option<Result<(Vec<Fact>, Vec<String>), String>>;

/// Asks the sources.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    sources: Sources,
    kubernetes: Option<Kubernetes>,
    http: HttpClient,
    redactor: Redactor,
    metrics: Metrics,
}

impl Collector {
    pub(crate) fn new(sources: Sources, http: HttpClient, redactor: Redactor, metrics: Metrics) -> Self {
        Self {
            kubernetes: sources.kubernetes.clone().map(Kubernetes::new),
            sources,
            http,
            redactor,
            metrics,
        }
    }

    /// Reads what says where the API server of Kubernetes is.
    ///
    /// # Errors
    /// It is to be asked, and there is nothing usable.
    pub(crate) async fn connect(&self) -> anyhow::Result<()> {
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.connect().await?;
        }
        Ok(())
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
        let deadline = Instant::now() + self.sources.timeout;
        let place = Place::of(about, signals);
        let (drift, series, cluster, loki, logs, mlflow) = tokio::join!(
            self.ask_sidecar(about, stored.source.as_deref(), deadline),
            self.ask_prometheus(about, &place, deadline),
            self.ask_kubernetes(about, &place, deadline),
            self.ask_loki(about, &place, deadline),
            self.read_logs(about, deadline),
            self.ask_mlflow(about, &place, deadline),
        );
        for fact in stored.alerts {
            self.add(&mut context, Source::Alert, &fact, None);
        }
        for fact in stored.canaries {
            self.add(&mut context, Source::CanaryEvent, &fact, None);
        }
        self.drift(&mut context, stored.drift, drift, &mut redaction);
        let (objects, pod_logs) = match cluster {
            Some((objects, logs)) => (Some(Ok(objects)), Some(Ok(logs))),
            None => (None, None),
        };
        let mut take = |source, asked, setting: &str| {
            self.take(&mut context, source, asked, setting, &mut redaction);
        };
        take(Source::Prometheus, series, "prometheus");
        take(Source::Kubernetes, objects, "kubernetes");
        take(Source::PodLogs, pod_logs, "kubernetes");
        take(Source::Loki, loki, "loki");
        take(Source::Logs, logs, "logs");
        if about.model.is_some() {
            take(Source::Mlflow, mlflow, "mlflow");
        }
        self.metrics.redacted(redaction.count());
        context
    }

    async fn ask_sidecar(
        &self,
        about: &About,
        event_source: Option<&str>,
        deadline: Instant,
    ) -> Option<Result<Drift, String>> {
        if about.kind != DRIFT && about.model.is_none() {
            return None;
        }
        let asked = sidecar::ask(&self.http, &self.sources, about, event_source);
        Some(by(deadline, Source::DriftState, asked).await)
    }

    async fn ask_prometheus(&self, about: &About, place: &Place, deadline: Instant) -> Asked {
        let base = self.sources.prometheus.as_ref()?;
        let asked = prometheus::ask(&self.http, base, about, place, &self.sources);
        Some(by(deadline, Source::Prometheus, asked).await)
    }

    /// Facts and gaps of the objects, and those of the logs.
    async fn ask_kubernetes(
        &self,
        about: &About,
        place: &Place,
        deadline: Instant,
    ) -> Option<((Vec<Fact>, Vec<String>), (Vec<Fact>, Vec<String>))> {
        let kubernetes = self.kubernetes.as_ref()?;
        let found = kubernetes
            .ask(about, place, &self.sources, &self.redactor, deadline)
            .await;
        self.metrics.redacted(found.redactions);
        Some(((found.facts, found.gaps), (found.logs, found.log_gaps)))
    }

    async fn ask_loki(&self, about: &About, place: &Place, deadline: Instant) -> Asked {
        let loki = self.sources.loki.as_ref()?;
        let asked = loki::ask(&self.http, loki, about, place, &self.sources, &self.redactor);
        let asked = by(deadline, Source::Loki, asked).await;
        Some(asked.map(|(fact, redactions)| {
            self.metrics.redacted(redactions);
            (vec![fact], Vec::new())
        }))
    }

    async fn read_logs(&self, about: &About, deadline: Instant) -> Asked {
        if self.sources.logs.is_empty() {
            return None;
        }
        let read = logs::read(self.sources.clone(), about.started_at, self.redactor.clone());
        let read = by(deadline, Source::Logs, read).await;
        Some(read.map(|found| {
            self.metrics.redacted(found.redactions);
            (found.facts, found.gaps)
        }))
    }

    async fn ask_mlflow(&self, about: &About, place: &Place, deadline: Instant) -> Asked {
        let (source, model) = (self.sources.mlflow.as_ref()?, about.model.as_deref()?);
        let version = place.model_version.as_deref();
        let asked = mlflow::ask(&self.http, source, model, version, &self.sources);
        Some(by(deadline, Source::Mlflow, asked).await)
    }

    /// Adds what a source came to; without `setting` it was not asked. Reasons are texts from outside, too.
    fn take(
        &self,
        context: &mut Context,
        source: Source,
        asked: Asked,
        setting: &str,
        redaction: &mut Redaction,
    ) {
        let (facts, gaps) = match asked {
            Some(Ok(found)) => found,
            Some(Err(reason)) => (Vec::new(), vec![reason]),
            None => (Vec::new(), vec![format!("not configured ({setting})")]),
        };
        for fact in facts {
            self.add(context, source, &fact, Some(redaction));
        }
        for gap in gaps {
            self.missing(context, source, &redaction.text(&sanitise(&gap)));
        }
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
                self.missing(context, Source::DriftState, &redaction.text(&sanitise(&reason)));
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
        let asked = Source::ALL
            .into_iter()
            .filter(|source| !matches!(source, Source::Alert | Source::DriftEvent | Source::CanaryEvent));
        for source in asked {
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
    deadline: Instant,
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
