//! Takes up the routes of the configuration file when it changes, or on SIGHUP.
//!
//! A file that is not valid changes nothing: it is told in the log, in the metric and on the admin page, and the routes
//! stay as they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plumbline_service::config::{Problems, Source};
use plumbline_service::{Settling, Shutdown, Stamp};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Condition, Config, Reason, RouteSpec, RouteTables};
use crate::snapshot::Routes;

/// Settings that a change of the file takes effect in without a restart.
const LIVE: [&str; 3] = ["route", "request_timeout", "max_body"];

/// Looks at the file again and again.
#[derive(Debug)]
pub(crate) struct Reload {
    source: Arc<Source>,
    file: PathBuf,
    poll: Duration,
    watch: Settling<Option<Stamp>>,
    /// What `/config` shows: settings that differ need a restart.
    started_with: Option<Value>,
    /// Routes that are read again only when their tables change.
    route_tables: RouteTables,
    /// Discovery has taken its defaults at the start.
    discovers: bool,
    routes: Arc<Routes>,
}

impl Reload {
    /// Nothing for a configuration without a file.
    pub(crate) fn new(config: &mut Config, routes: &Arc<Routes>) -> Option<Self> {
        let source = config.source.as_ref()?;
        let file = source.file()?.to_owned();
        let mut reload = Self {
            watch: Settling::new(Stamp::of(&file)),
            started_with: None,
            route_tables: std::mem::take(&mut config.route_tables),
            discovers: config.kubernetes.is_some(),
            source: Arc::clone(source),
            file,
            poll: config.config_poll,
            routes: Arc::clone(routes),
        };
        reload.started_with = reload.load().ok().map(|(_, shown)| shown);
        Some(reload)
    }

    /// The routes of the file as it is now, and what `/config` would show.
    fn load(&mut self) -> Result<(Vec<Arc<RouteSpec>>, Value), Problems> {
        let tables = &mut self.route_tables;
        let ((_, config), shown) = self.source.load(|reader| Config::read_again(reader, tables))?;
        Ok((config.routes, shown))
    }

    /// Goes on until listeners close.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(self.poll) => false,
                () = received(&mut hangup) => true,
                () = shutdown.stop_accepting() => return,
            };
            // Reads a file and builds every route that has changed: not for a network thread.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(asked);
                self
            });
            match looked.await {
                Ok(back) => self = back,
                Err(error) => {
                    return tracing::error!(%error, "the configuration file is not watched any more");
                }
            }
        }
    }

    /// Reads the file when it has changed, or when that is `asked` for.
    fn look(&mut self, asked: bool) {
        let now = Stamp::of(&self.file);
        if asked {
            self.watch = Settling::new(now);
        } else if self.watch.changed(now).is_none() {
            return;
        }
        match self.load() {
            Ok((routes, shown)) => {
                tracing::info!(file = %self.file.display(), "the configuration file was read again");
                self.routes.configure(routes, self.need_restart(&shown));
                self.routes.metrics().config_replaced.inc();
            }
            Err(problems) => self.refuse(&problems),
        }
    }

    fn refuse(&self, problems: &Problems) {
        tracing::error!(file = %self.file.display(), error = %problems, "the configuration file is not valid; the routes stay as they are");
        self.routes.metrics().config_refused.inc();
        let problem = format!("{}: {problems}", self.file.display());
        self.routes
            .keep_configured(vec![Condition::general(Reason::FileInvalid, problem)]);
    }

    fn need_restart(&self, shown: &Value) -> Vec<Condition> {
        let settings = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let Some(before) = self.started_with.as_ref().map(settings) else {
            return Vec::new();
        };
        let changed = settings(shown)
            .into_iter()
            .filter(|(name, value)| before.get(name) != Some(value));
        let problem = |name: String| match LIVE.contains(&name.as_str()) {
            false => Some(format!(
                "setting `{name}` has changed, which takes effect at the next start"
            )),
            true if self.discovers && name != "route" => Some(format!(
                "setting `{name}` has changed, which takes effect in routes of Kubernetes at the next start"
            )),
            true => None,
        };
        let problems = changed.filter_map(|(name, _)| problem(name));
        problems
            .map(|problem| Condition::general(Reason::NeedsRestart, problem))
            .collect()
    }
}

/// A signal that cannot be waited for never comes.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::{Common, Outcome, load};
    use plumbline_service::metrics::Metrics as Registry;
    use plumbline_service::upstream::Options;

    use super::*;
    use crate::config::SETTINGS;
    use crate::metrics::Metrics;

    struct Fixture {
        file: tempfile::NamedTempFile,
        registry: Registry,
        routes: Arc<Routes>,
        reload: Reload,
    }

    impl Fixture {
        fn new(text: &str) -> Self {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("written");
            let settings: &[&[_]] = &[&Common::settings("127.0.0.1:0", "127.0.0.1:0"), SETTINGS];
            let arguments = ["--config", file.path().to_str().expect("a text")].map(str::to_owned);
            let loaded = load("gateway", settings, arguments, [], Config::read).expect("valid");
            let Outcome::Start {
                config: (_, mut config),
                ..
            } = loaded
            else {
                panic!("expected a configuration");
            };
            let registry = Registry::default();
            let routes = Arc::new(Routes::new(Metrics::declare(&registry), Options::default()));
            routes.configure(config.routes.clone(), Vec::new());
            let reload = Reload::new(&mut config, &routes).expect("a file");
            Self {
                file,
                registry,
                routes,
                reload,
            }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.file.path(), text).expect("written");
        }

        fn models(&self) -> Vec<String> {
            let snapshot = self.routes.load();
            snapshot
                .sorted()
                .iter()
                .map(|route| route.model.to_string())
                .collect()
        }

        fn counted(&self, series: &str) -> bool {
            String::from_utf8(self.registry.render())
                .expect("text")
                .contains(series)
        }
    }

    fn route(model: &str) -> String {
        format!("[[route]]\nmodel = \"{model}\"\nendpoints = [\"http://127.0.0.1:1\"]\n")
    }

    #[tokio::test]
    async fn a_change_is_taken_up_when_it_is_complete() {
        let mut fixture = Fixture::new(&route("churn"));
        fixture.write(&(route("churn") + &route("iris")));
        fixture.reload.look(false);
        assert_eq!(fixture.models(), ["churn"], "it may still be written");
        fixture.reload.look(false);
        assert_eq!(fixture.models(), ["churn", "iris"]);
        fixture.reload.look(false);
        assert!(
            fixture.counted(r#"config_reloads_total{outcome="replaced"} 1"#),
            "read once"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_valid_changes_nothing_and_is_told() {
        let mut fixture = Fixture::new(&route("churn"));
        fixture.write("[[route]]\nmodel = \"iris\"\n");
        fixture.reload.look(true);
        assert_eq!(fixture.models(), ["churn"]);
        let conditions = fixture.routes.conditions();
        assert!(
            conditions.len() == 1 && conditions[0].problem.contains("model `iris` has no endpoint"),
            "{conditions:?}"
        );
        assert!(fixture.counted(r#"config_reloads_total{outcome="refused"} 1"#));
        assert!(fixture.counted(r#"plumbline_gateway_route_conditions{reason="file_invalid"} 1"#));
        std::fs::remove_file(fixture.file.path()).expect("removed");
        fixture.reload.look(true);
        assert_eq!(fixture.models(), ["churn"]);
        fixture.write(&route("iris"));
        fixture.reload.look(true);
        assert_eq!(fixture.models(), ["iris"]);
        assert!(fixture.routes.conditions().is_empty());
    }

    #[tokio::test]
    async fn a_setting_that_needs_a_restart_is_told() {
        let mut fixture = Fixture::new(&route("churn"));
        fixture.write(&format!(
            "max_in_flight = 5\nrequest_timeout = \"5s\"\n{}",
            route("churn")
        ));
        fixture.reload.look(true);
        let conditions = fixture.routes.conditions();
        assert!(
            conditions.len() == 1 && conditions[0].problem.contains("`max_in_flight`"),
            "{conditions:?}"
        );
        let snapshot = fixture.routes.load();
        assert_eq!(
            snapshot.route("churn").expect("routed").spec.timeout,
            Duration::from_secs(5)
        );
    }
}
