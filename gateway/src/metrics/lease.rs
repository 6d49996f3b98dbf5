//! Series of models and endpoints that are gone leave the registry: it is as large as the routes are, not as they were.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use plumbline_inference_protocol::GrpcCode;

use super::{Metrics, STATUSES};
use crate::call::Family;

/// Whose series they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Model(Box<str>),
    Revision(Box<str>, Box<str>),
    Endpoint(Box<str>),
}

/// How many hold handles of a subject: the old routes' last requests and the new routes may at the same time.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashMap<Subject, usize>>);

/// Keeps a subject's series. The last one that is dropped removes them.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) metrics: Metrics,
    subject: Subject,
}

impl Lease {
    /// Comes before the handles are resolved, so that they are not removed in between.
    pub(super) fn new(metrics: &Metrics, subject: Subject) -> Self {
        let mut users = metrics.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        *users.entry(subject.clone()).or_default() += 1;
        drop(users);
        Self {
            metrics: metrics.clone(),
            subject,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut users = self
            .metrics
            .users
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(count) = users.get_mut(&self.subject) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            users.remove(&self.subject);
            // Still under the lock: whoever comes next gets new ones.
            self.metrics.remove(&self.subject);
        }
    }
}

impl Metrics {
    fn remove(&self, subject: &Subject) {
        // A series that was never resolved is not there to be removed, which is no failure.
        match subject {
            Subject::Model(model) => self.remove_model(model),
            Subject::Revision(model, revision) => {
                let _absent = self.revision_requests.remove_label_values(&[model, revision]);
                self.protection.remove_revision(model, revision);
            }
            Subject::Endpoint(endpoint) => self.remove_endpoint(endpoint),
        }
    }

    fn remove_model(&self, model: &str) {
        let _absent = self.overhead.remove_label_values(&[model]);
        let _absent = self.fallbacks.remove_label_values(&[model]);
        self.mirror.remove(model);
        self.protection.remove_model(model);
        let numbers = STATUSES.map(|status| status.to_string());
        let names = GrpcCode::ALL.map(GrpcCode::name);
        for family in Family::ALL {
            let family = family.label();
            if self.duration.remove_label_values(&[model, family]).is_err() {
                continue; // no request of it was ever recorded
            }
            let codes = numbers
                .iter()
                .map(String::as_str)
                .chain(names)
                .chain(["other", "aborted"]);
            for code in codes {
                let _absent = self.requests.remove_label_values(&[model, family, code]);
            }
        }
    }

    fn remove_endpoint(&self, endpoint: &str) {
        for outcome in super::OUTCOMES {
            let _absent = self.upstream_requests.remove_label_values(&[endpoint, outcome]);
        }
        let _absent = self.upstream_duration.remove_label_values(&[endpoint]);
        let _absent = self.upstream_pending.remove_label_values(&[endpoint]);
        let _absent = self.upstream_retries.remove_label_values(&[endpoint]);
        let _absent = self.connections_opened.remove_label_values(&[endpoint]);
        let _absent = self.connections_failed.remove_label_values(&[endpoint]);
        let _absent = self.connections.remove_label_values(&[endpoint]);
        let _absent = self.connect_duration.remove_label_values(&[endpoint]);
        self.protection.remove_endpoint(endpoint);
    }
}
