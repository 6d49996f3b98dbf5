//! Series of the segments of a model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use plumbline_service::metrics::Metrics as Registry;
use prometheus::{IntGauge, IntGaugeVec};

/// The state of each segment; a profile names at most 17 of them.
#[derive(Clone, Debug)]
pub(super) struct SegmentFamily {
    family: IntGaugeVec,
    /// The segments of each model and version, to be taken back when it gets another profile: one that no longer exists has no state.
    shown: Arc<Mutex<BTreeMap<[String; 2], Vec<String>>>>,
}

impl SegmentFamily {
    pub(super) fn declare(registry: &Registry) -> Self {
        Self {
            family: registry.int_gauge_vec(
                "plumbline_drift_segment_state",
                "0 stable, 1 warning, 2 drift of the rows of one segment, beside the state of the model; `other` stands for all rows that no other segment has.",
                &["model", "version", "segment"],
            ),
            shown: Arc::default(),
        }
    }

    pub(super) fn show<'a>(&self, labels: [&str; 2], names: impl Iterator<Item = &'a str>) -> Vec<IntGauge> {
        let [model, version] = labels;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.entry(labels.map(str::to_owned)).or_default();
        for name in shown.drain(..) {
            self.family
                .remove_label_values(&[model, version, &name])
                .expect("it was made with these labels");
        }
        shown.extend(names.map(str::to_owned));
        shown
            .iter()
            .map(|name| self.family.with_label_values(&[model, version, name]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_another_profile_take_the_place_of_the_ones_before() {
        let registry = Registry::default();
        let family = SegmentFamily::declare(&registry);
        let show = |version: &str, names: &[&str]| family.show(["churn", version], names.iter().copied());
        show("3", &["north", "other"])[0].set(2);
        show("4", &["north"])[0].set(1);
        let again = show("3", &["north", "south"]);
        again[1].set(1);
        let text = String::from_utf8(registry.render()).expect("text");
        let series: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("plumbline_drift_segment_state"))
            .collect();
        assert_eq!(
            series,
            [
                r#"{model="churn",segment="north",version="3"} 0"#,
                r#"{model="churn",segment="north",version="4"} 1"#,
                r#"{model="churn",segment="south",version="3"} 1"#,
            ]
        );
    }
}
