//! Endpoints outlive the routes that name them: one that is asked for again is the one that there is.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use plumbline_service::upstream::Target;

use crate::endpoint::{Endpoint, Means};

/// Fewer are never swept.
const SWEEP_AT_LEAST: usize = 64;

/// Every endpoint that a route or a request still holds. Of those that are gone, never more than there were others.
#[derive(Debug, Default)]
pub(super) struct Known {
    endpoints: HashMap<Target, Weak<Endpoint>>,
    sweep_at: usize,
}

impl Known {
    /// The endpoint that there is, or a new one.
    pub(super) fn endpoint(&mut self, target: &Target, means: &Arc<Means>) -> Arc<Endpoint> {
        if let Some(endpoint) = self.endpoints.get(target).and_then(Weak::upgrade) {
            return endpoint;
        }
        if self.endpoints.len() >= self.sweep_at {
            self.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
            self.sweep_at = (self.endpoints.len() * 2).max(SWEEP_AT_LEAST);
        }
        let endpoint = Arc::new(Endpoint::new(target.clone(), Arc::clone(means)));
        self.endpoints.insert(target.clone(), Arc::downgrade(&endpoint));
        endpoint
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }
}
