//! What requests and probes see of the keeper's work.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::record::Record;
use super::super::snapshot::{Entry, Snapshot};
use super::Keeper;

impl Keeper {
    pub(super) fn publish(&mut self, name: &str) {
        let mut models = self.shared.snapshot.load().models.clone();
        match self.records.get(name) {
            Some(record) => {
                self.loader.metrics.set_behind(name, record.is_behind());
                models.insert(name.to_owned(), Arc::new(record.entry(name)));
            }
            None => {
                models.remove(name);
            }
        }
        self.swap(models);
    }

    pub(super) fn publish_all(&mut self) {
        let entry = |(name, record): (&String, &Record)| (name.clone(), Arc::new(record.entry(name)));
        let models = self.records.iter().map(entry).collect();
        self.swap(models);
    }

    pub(super) fn swap(&mut self, models: HashMap<String, Arc<Entry>>) {
        self.shared.snapshot.store(Arc::new(Snapshot {
            models,
            is_first: false,
        }));
        self.shared.changed.send_replace(());
        let reason = self.reason_to_wait();
        match (&self.unready, reason) {
            (None, None) => {}
            (Some(token), Some(reason)) => token.update(reason),
            (None, Some(reason)) => {
                tracing::warn!(reason, "not ready");
                self.unready = Some(self.readiness.wait_for(reason));
            }
            (Some(_), None) => self.unready = None,
        }
    }

    /// Why the server is not ready, if its models are the reason.
    pub(super) fn reason_to_wait(&self) -> Option<String> {
        if !self.has_started {
            let loading = self
                .records
                .iter()
                .filter(|(_, record)| record.complaint().is_some());
            let names: Vec<String> = loading.take(8).map(|(name, _)| format!("`{name}`")).collect();
            return Some(format!("models are loading: {}", names.join(", ")));
        }
        if self.config.strict_readiness {
            let complaint = |(name, record): (&String, &Record)| {
                let complaint = record.complaint()?;
                Some(format!("model `{name}` is not served: {complaint}"))
            };
            if let Some(complaint) = self.records.iter().find_map(complaint) {
                return Some(complaint);
            }
        }
        let is_empty = !self.records.values().any(Record::is_served);
        (is_empty && !self.config.ready_without_models).then(|| "no model is served".to_owned())
    }
}
