//! What the cluster knows of an incident: pods and what owns them, events, what the last rollout changed, nodes, logs.
//!
//! Read with `get` and `list` only, each answer bounded; what a role does not allow is named by verb and resource. Values
//! of environment variables are never taken, only their names.

mod api;
mod describe;
mod events;
mod logs;
mod pods;
mod rollout;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{About, Fact, Place};
use crate::config::{KubernetesSource, Sources};
use crate::redact::Redactor;
use api::Api;

/// Time to reach the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// The API server that is asked. Cloned freely.
#[derive(Clone)]
pub(super) struct Kubernetes {
    source: KubernetesSource,
    client: Arc<OnceCell<Client>>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What was found until the deadline.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) facts: Vec<Fact>,
    pub(super) gaps: Vec<String>,
    /// Already redacted.
    pub(super) logs: Vec<Fact>,
    pub(super) log_gaps: Vec<String>,
    pub(super) redactions: u64,
}

impl Kubernetes {
    pub(super) fn new(source: KubernetesSource) -> Self {
        Self {
            source,
            client: Arc::default(),
        }
    }

    /// Reads the kubeconfig or the pod's service account.
    ///
    /// # Errors
    /// There is none that can be used.
    pub(super) async fn connect(&self) -> anyhow::Result<&Client> {
        self.client
            .get_or_try_init(|| client(self.source.kubeconfig.as_ref()))
            .await
    }

    /// Everything until `deadline`; what came in time is kept when the rest is late.
    pub(super) async fn ask(
        &self,
        about: &About,
        place: &Place,
        sources: &Sources,
        redactor: &Redactor,
        deadline: Instant,
    ) -> Found {
        let mut found = Found::default();
        let client = match self.connect().await {
            Ok(client) => client.clone(),
            Err(error) => {
                found.gaps.push(format!("{error:#}"));
                return found;
            }
        };
        let api = Api::new(client, deadline);
        let pods = match pods::find(&api, &self.source.namespaces, place, &mut found.gaps).await {
            Ok(pods) => pods,
            Err(reason) => {
                found.gaps.push(reason);
                // An alert about a node need not name a pod.
                describe::surroundings(&api, &[], place, &mut found).await;
                return found;
            }
        };
        if let Some(overview) = pods::overview(&pods) {
            found.facts.push(overview);
        }
        let worst = pods::worst(&pods);
        // Events first: the cluster forgets them soon.
        events::ask(&api, &worst, &mut found).await;
        for pod in &worst {
            found.facts.push(describe::pod(pod));
        }
        rollout::ask(&api, &worst, place, about.started_at, &mut found).await;
        describe::surroundings(&api, &worst, place, &mut found).await;
        logs::ask(
            &api,
            &worst,
            place,
            about.started_at,
            sources,
            redactor,
            &mut found,
        )
        .await;
        found
    }
}

async fn client(kubeconfig: Option<&PathBuf>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).context("`kubeconfig` cannot be used")?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .context("`kubeconfig` cannot be used")?
        }
        None => kube::Config::incluster()
            .context("no service account of a pod; outside of a cluster, `kubeconfig` is needed")?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("the API server cannot be spoken to")
}
