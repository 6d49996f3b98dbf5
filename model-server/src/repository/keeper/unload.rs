//! Takes models out of service, and frees them when their last request has ended.

use std::sync::Arc;

use super::super::memory;
use super::super::record::Version;
use super::{Draining, Keeper};

impl Keeper {
    /// Unloads what is not `kept`, unless that would leave a model with nothing on account of a failure; forgets
    /// versions that are not there any more.
    pub(super) fn unload_others(&mut self, name: &str, kept: &[u64], available: &[u64]) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let served = record.versions.iter().filter(|(_, v)| v.served.is_some());
        let served: Vec<u64> = served.map(|(number, _)| *number).collect();
        if !kept.is_empty() {
            for number in served.into_iter().filter(|number| !kept.contains(number)) {
                self.unload(name, number);
            }
        }
        if let Some(record) = self.records.get_mut(name) {
            record.versions.retain(|number, version| {
                available.contains(number) || version.served.is_some() || version.draining > 0
            });
        }
    }

    pub(super) fn unload_all(&mut self, name: &str) {
        let numbers: Vec<u64> = match self.records.get(name) {
            Some(record) => record.versions.keys().copied().collect(),
            None => return,
        };
        for number in numbers {
            self.unload(name, number);
        }
    }

    pub(super) fn unload(&mut self, name: &str, number: u64) {
        let Some(version) = self.version(name, number) else {
            return;
        };
        version.watch.forget();
        version.failure = None;
        version.is_loading = false;
        if let Some(loaded) = version.served.take() {
            version.draining += 1;
            loaded.model.metrics.set_ready(false);
            tracing::info!(model.name = name, model.version = number, "model unloaded");
            self.draining.push(Draining {
                name: name.to_owned(),
                version: number,
                model: loaded.model,
            });
        }
    }

    /// Frees the models whose last request has ended.
    pub(super) fn sweep(&mut self) {
        let is_free = |draining: &Draining| Arc::strong_count(&draining.model) == 1;
        if !self.draining.iter().any(is_free) {
            return;
        }
        let (free, busy) = std::mem::take(&mut self.draining).into_iter().partition(is_free);
        self.draining = busy;
        let free: Vec<Draining> = free;
        let freed: Vec<(String, u64)> = free
            .into_iter()
            .map(|draining| (draining.name, draining.version))
            .collect();
        memory::give_back();
        for (name, number) in freed {
            if let Some(version) = self.version(&name, number) {
                version.draining -= 1;
                if version.draining > 0 || version.served.is_some() {
                    continue;
                }
            }
            self.loader.metrics.forget(&name, &number.to_string());
            self.publish(&name);
            self.retire(&name);
        }
    }

    /// Forgets a model that is nowhere: not in a source, not served, without requests.
    pub(super) fn retire(&mut self, name: &str) {
        let is_over = self.records.get(name).is_some_and(|record| {
            let is_idle = |version: &Version| version.served.is_none() && version.draining == 0;
            !record.wanted && record.source.is_none() && record.versions.values().all(is_idle)
        });
        if is_over {
            self.records.remove(name);
            self.loader.metrics.forget_model(name);
            self.publish(name);
        }
    }
}
