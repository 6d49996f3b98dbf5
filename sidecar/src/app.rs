//! Puts the parts together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use plumbline_drift::performance::PerformanceReport;
use plumbline_drift::report::{DriftOverview, Reference, ReferenceSource};
use plumbline_service::admin::{Page, json, text};
use plumbline_service::traces::TraceRequests;
use plumbline_service::{ClientTls, EventSink, Listener, Process, ReadinessToken, Tls};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Switch};
use crate::events::{Delivery, Outbox, Raise, Source};
use crate::feedback::Feedback;
use crate::forward::Forwarder;
use crate::logger::{self, Logger};
use crate::metrics::Metrics;
use crate::models::{Model, Models};
use crate::observation::Observing;
use crate::observer::{Observer, Queue, now_unix_ms};
use crate::references::{Keeper, References};
use crate::skip::SkipReason;
use crate::tee::Keeping;
use crate::upstream::{Upstream, watch_readiness};

/// A sidecar whose ports are bound and whose observer runs.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    process: Process,
    forwarder: Arc<Forwarder>,
    observer: Observer,
    keeper: Option<Keeper>,
    delivery: Option<Delivery>,
    logging: Option<logger::Sending>,
    waiting: ReadinessToken,
    settled: watch::Receiver<u64>,
}

impl App {
    /// Binds the data port, loads profiles, and starts the observer.
    ///
    /// A profile that was found beside a model and is bad leaves that model without drift detection, and is told.
    ///
    /// # Errors
    /// A port that cannot be bound, TLS files that cannot be used, a spool directory that cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "every part binds like this, and others do wait"
    )]
    pub async fn bind(config: Config, process: &Process) -> anyhow::Result<Self> {
        let metrics = Metrics::declare(process.metrics());
        let listener = Listener::bind(config.common.listen)?;
        let tls = config.tls.clone();
        let tls = tls.map(|files| Tls::load(files, process.metrics())).transpose()?;
        let upstream_tls = config.upstream_tls.clone().map(ClientTls::load).transpose()?;
        if let Some(tls) = tls.clone() {
            tokio::spawn(tls.watch(process.shutdown().clone()));
        }
        if let Some(tls) = upstream_tls.clone() {
            tokio::spawn(tls.watch(process.shutdown().clone()));
        }
        let listener = listener.with_tls(tls);
        let upstream = Upstream::new(&config, upstream_tls, metrics.upstream.clone());
        let waiting = process
            .readiness()
            .wait_for(format!("the model server at {}", upstream.target()));
        let logger = config.log_to.as_ref().map(|_| {
            Logger::new(
                config.log_mode,
                config.log_sample,
                config.log_bytes,
                metrics.logger.clone(),
            )
        });
        let logging = log_sending(&config, logger.as_ref(), process)?;
        let observing = Arc::new(Observing {
            logger,
            models: Models::new(&metrics, config.learn_rows > 0 && config.analysis == Switch::On),
            queue: Queue::new(config.queue_items.get(), metrics.exchanges.queued.clone()),
            keeping: Arc::new(Keeping::new(
                config.capture_limit,
                config.queue_bytes,
                metrics.exchanges.queued_bytes.clone(),
                config.while_forwarding.clone(),
            )),
            off: (config.analysis == Switch::Off).then_some(SkipReason::Off),
            metrics: metrics.exchanges.clone(),
            feedback: feedback(&config, &metrics)?,
        });
        let (raise, delivery) = events(&config, &metrics, process)?;
        let (references, keeper) = keeper(&config, &metrics, &observing, &raise)?;
        let (settle, settled) = watch::channel(0);
        let observer = Observer::spawn(
            &observing,
            references,
            raise,
            config.window_time,
            config.before_analysis.clone(),
            settle,
        )
        .context("cannot start the observer's thread")?;
        process.admin().page("/drift", {
            let observing = Arc::clone(&observing);
            move |query| drift_page(&observing.models, query)
        });
        process.admin().page("/performance", {
            let observing = Arc::clone(&observing);
            move |query| performance_page(&observing.models, query)
        });
        let forwarder = Arc::new(Forwarder { upstream, observing });
        process.started();
        Ok(Self {
            listener,
            process: process.clone(),
            forwarder,
            observer,
            keeper,
            delivery,
            logging,
            waiting,
            settled,
        })
    }

    /// Where the data port listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Counts the exchanges that the observer is done with, once their metrics are up to date.
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.clone()
    }

    /// Forwards until the process's shutdown has drained, then lets the observer finish, then the events.
    ///
    /// # Errors
    /// None so far; the signature is that of every part.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self {
            listener,
            process,
            forwarder,
            observer,
            keeper,
            delivery,
            logging,
            waiting,
            settled: _,
        } = self;
        let shutdown = process.shutdown();
        let probing = tokio::spawn({
            let (forwarder, process) = (Arc::clone(&forwarder), process.clone());
            async move {
                let (readiness, shutdown) = (process.readiness(), process.shutdown());
                watch_readiness(&forwarder.upstream, readiness, waiting, shutdown).await;
            }
        });
        let observed = CancellationToken::new();
        let delivering = delivery.map(|delivery| tokio::spawn(delivery.run(observed.clone())));
        let logging = logging.map(|logging| tokio::spawn(logging.run(observed.clone())));
        let service = tower::service_fn(move |request| Arc::clone(&forwarder).answer(request));
        let service = TraceRequests::new(service, process.tracer().clone());
        listener.serve(service, process.serve_options(), shutdown).await;
        observer.finish().await;
        if let Some(keeper) = keeper {
            keeper.finish().await;
        }
        observed.cancel();
        for task in [Some(probing), delivering, logging].into_iter().flatten() {
            task.await.context("a task of the sidecar panicked")?;
        }
        Ok(())
    }
}

/// Takes up the profiles, and keeps looking at them; none when nothing is to be observed.
fn keeper(
    config: &Config,
    metrics: &Metrics,
    observing: &Arc<Observing>,
    raise: &Arc<Raise>,
) -> anyhow::Result<(References, Option<Keeper>)> {
    let references = References::new(config, metrics, raise).with_context(|| cannot_use_state(config))?;
    if config.analysis == Switch::Off {
        tracing::info!("analysis is off: requests are forwarded and timed, and nothing is read out of them");
        return Ok((references, None));
    }
    references.start(config, &observing.models);
    if !observing.models.any_observed() {
        let directory = config.model_dir.display();
        tracing::warn!(model_dir = %directory, learn_rows = config.learn_rows, "no reference profile");
    }
    let keeper =
        Keeper::spawn(references.clone(), config, observing).context("cannot start the keeper's thread")?;
    Ok((references, Some(keeper)))
}

fn events(
    config: &Config,
    metrics: &Metrics,
    process: &Process,
) -> anyhow::Result<(Arc<Raise>, Option<Delivery>)> {
    let source = Source::new(admin_url(config, process));
    let Some(url) = &config.events_to else {
        return Ok((Arc::new(Raise::new(source, None)), None));
    };
    let kept = config.state_dir.as_ref().map(|state| state.join("events"));
    let spool = config.spool_dir.clone().or(kept);
    let place = spool
        .as_ref()
        .map_or_else(String::new, |spool| spool.display().to_string());
    let (outbox, keeper) = Outbox::open(spool, metrics.events.clone())
        .with_context(|| format!("cannot use the spool directory {place} (spool_dir)"))?;
    let worker = EventSink::new(url).map_err(|problem| anyhow::anyhow!("events_to = {url}: {problem}"))?;
    let delivery = Delivery::new(worker, Arc::clone(&outbox), keeper, metrics.events.clone());
    Ok((Arc::new(Raise::new(source, Some(outbox))), Some(delivery)))
}

fn feedback(config: &Config, metrics: &Metrics) -> anyhow::Result<Feedback> {
    let bytes = match config.analysis {
        Switch::On => config.feedback_bytes,
        Switch::Off => 0,
    };
    let feedback = Feedback::new(config.feedback_ttl, bytes, metrics.feedback.clone());
    let Some(directory) = &config.state_dir else {
        return Ok(feedback);
    };
    feedback
        .kept_in(directory.join("feedback"), metrics.state.clone())
        .with_context(|| cannot_use_state(config))
}

fn cannot_use_state(config: &Config) -> String {
    let directory = config.state_dir.as_deref().unwrap_or_else(|| Path::new(""));
    format!(
        "cannot use the state directory {} (state_dir)",
        directory.display()
    )
}

fn log_sending(
    config: &Config,
    logger: Option<&Logger>,
    process: &Process,
) -> anyhow::Result<Option<logger::Sending>> {
    let (Some(url), Some(logger)) = (&config.log_to, logger) else {
        return Ok(None);
    };
    let source = logger::Source {
        uri: admin_url(config, process),
        names: config.log_names.clone(),
    };
    let sending = logger
        .sending(url, source)
        .map_err(|problem| anyhow::anyhow!("log_to = {url}: {problem}"))?;
    Ok(Some(sending))
}

/// The admin port as others reach it; an address that means "all of them" becomes loopback.
fn admin_url(config: &Config, process: &Process) -> String {
    if let Some(url) = &config.admin_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let mut address = process.admin_address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

/// The value of `key` in a query.
fn wanted(query: &str, key: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| {
            percent_encoding::percent_decode_str(&value.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        })
}

/// `?model=NAME` and `?subject=NAME` leave the others out.
fn drift_page(models: &Models, query: &str) -> Page {
    let (model, subject) = (wanted(query, "model"), wanted(query, "subject"));
    let mut overview = DriftOverview::default();
    for known in models.all() {
        if model.as_ref().is_some_and(|wanted| *wanted != known.name) {
            continue;
        }
        overview
            .models
            .extend(known.with_analysis(|analysis| analysis.report(now_unix_ms())));
    }
    overview.references = references(models);
    overview.models.sort_by(|a, b| a.model.cmp(&b.model));
    if let Some(subject) = &subject {
        overview
            .models
            .iter_mut()
            .for_each(|model| model.subjects.retain(|other| other.name == *subject));
    }
    match (model, overview.models.is_empty()) {
        (Some(model), true) => text(
            http::StatusCode::NOT_FOUND,
            format!("no reference profile for model `{model}`\n"),
        ),
        _ => json(http::StatusCode::OK, &overview),
    }
}

/// What `GET /performance` tells of one model.
#[derive(serde::Serialize)]
struct ModelPerformance {
    model: String,
    version: String,
    #[serde(flatten)]
    performance: PerformanceReport,
}

/// `?model=NAME` leaves the others out.
fn performance_page(models: &Models, query: &str) -> Page {
    let model = wanted(query, "model");
    let report = |known: &Arc<Model>| {
        let report = known.with_analysis(|analysis| analysis.performance_report());
        Some(ModelPerformance {
            model: known.name.clone(),
            version: known.version.clone(),
            performance: report.flatten()?,
        })
    };
    let all = models.all();
    let asked = all
        .iter()
        .filter(|known| model.as_ref().is_none_or(|wanted| *wanted == known.name));
    let mut told: Vec<ModelPerformance> = asked.filter_map(report).collect();
    told.sort_by(|a, b| (&a.model, &a.version).cmp(&(&b.model, &b.version)));
    match (model, told.is_empty()) {
        (Some(model), true) => text(
            http::StatusCode::NOT_FOUND,
            format!("the performance of model `{model}` is not followed\n"),
        ),
        _ => json(http::StatusCode::OK, &serde_json::json!({ "models": told })),
    }
}

/// Where the reference of each model comes from that has or will have one.
fn references(models: &Models) -> Vec<Reference> {
    let reference = |model: Arc<Model>| {
        let analysed = model.with_analysis(|analysis| (analysis.is_learned(), analysis.seasonal_subjects()));
        let (source, seasonal, rows) = match (analysed, model.learning()) {
            (Some((true, seasonal)), _) => (ReferenceSource::Learned, seasonal, None),
            (Some((false, seasonal)), _) => (ReferenceSource::Profile, seasonal, None),
            (None, Some(rows)) => (ReferenceSource::Learning, 0, Some(rows)),
            (None, None) => return None,
        };
        Some(Reference {
            model: model.name.clone(),
            version: model.version.clone(),
            source,
            seasonal_subjects: seasonal as u64,
            rows_learned: rows,
        })
    };
    let mut all: Vec<Reference> = models.all().into_iter().filter_map(reference).collect();
    all.sort_by(|a, b| (&a.model, &a.version).cmp(&(&b.model, &b.version)));
    all
}
