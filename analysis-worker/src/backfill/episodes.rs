//! From the samples of `ALERTS` to the times in which each alert fired.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Most alerts that are followed, far beyond what anybody could look at.
pub(super) const MAX_SERIES: usize = 20_000;
/// An alert of an unknown rule is evaluated at least this often: Prometheus' default.
const USUAL_INTERVAL: Duration = Duration::from_mins(1);
/// Evaluations that may be missed within one episode: a slow one is skipped, a resolved alert has none.
const MISSED: f64 = 2.5;

/// One time in which an alert fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    /// Without those that only `ALERTS` has.
    pub(super) labels: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub(super) started_at: i64,
    /// Nothing while it fires.
    pub(super) ended_at: Option<i64>,
}

/// Takes samples in the order of time.
pub(super) struct Episodes {
    /// How often each rule is evaluated, by the alert's name.
    intervals: BTreeMap<String, Duration>,
    /// Begin and last sample of each alert that fired last.
    open: HashMap<BTreeMap<String, String>, (i64, i64)>,
    ended: Vec<Episode>,
}

impl Episodes {
    pub(super) fn new(intervals: BTreeMap<String, Duration>) -> Self {
        Self {
            intervals,
            open: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// Whether there are more than [`MAX_SERIES`].
    pub(super) fn is_full(&self) -> bool {
        self.open.len() + self.ended.len() > MAX_SERIES
    }

    /// Samples of one series, milliseconds since 1970; what was added before may come again.
    pub(super) fn add(&mut self, mut labels: BTreeMap<String, String>, samples: impl Iterator<Item = i64>) {
        labels.remove("__name__");
        labels.remove("alertstate");
        let interval = self.interval(&labels);
        for at in samples {
            match self.open.get_mut(&labels) {
                Some((_, last)) if at <= *last => {}
                Some((_, last)) if (at - *last) as f64 <= interval as f64 * MISSED => *last = at,
                Some((begin, last)) => {
                    self.ended.push(Episode {
                        labels: labels.clone(),
                        started_at: *begin,
                        ended_at: Some(*last + interval),
                    });
                    (*begin, *last) = (at, at);
                }
                None => {
                    self.open.insert(labels.clone(), (at, at));
                }
            }
        }
    }

    /// All episodes until `until`, oldest first.
    pub(super) fn finish(mut self, until: i64) -> Vec<Episode> {
        for (labels, (started_at, last)) in std::mem::take(&mut self.open) {
            let interval = self.interval(&labels);
            let fires = (until - last) as f64 <= interval as f64 * MISSED;
            self.ended.push(Episode {
                labels,
                started_at,
                ended_at: (!fires).then_some(last + interval),
            });
        }
        self.ended
            .sort_by(|a, b| (a.started_at, &a.labels).cmp(&(b.started_at, &b.labels)));
        self.ended
    }

    fn interval(&self, labels: &BTreeMap<String, String>) -> i64 {
        let name = labels.get("alertname").map_or("", String::as_str);
        let known = self
            .intervals
            .get(name)
            .copied()
            .filter(|interval| !interval.is_zero());
        i64::try_from(known.unwrap_or(USUAL_INTERVAL).as_millis()).unwrap_or(i64::MAX / 4)
    }
}

/// An annotation with `{{ $labels.NAME }}` filled in; what else a template asks for is not known any more.
pub(super) fn fill_in(template: &str, labels: &BTreeMap<String, String>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((inner, after)) = after.split_once("}}") else {
            rest = "";
            break;
        };
        let label = inner.trim().trim_matches('-').trim().strip_prefix("$labels.");
        text.push_str(
            label
                .and_then(|name| labels.get(name))
                .map_or("…", String::as_str),
        );
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pod: &str) -> BTreeMap<String, String> {
        [
            ("alertname", "ErrorRate"),
            ("alertstate", "firing"),
            ("__name__", "ALERTS"),
            ("pod", pod),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn episodes() -> Episodes {
        Episodes::new([("ErrorRate".to_owned(), Duration::from_secs(15))].into())
    }

    fn times(episodes: &[Episode]) -> Vec<(i64, Option<i64>)> {
        episodes
            .iter()
            .map(|episode| (episode.started_at / 1000, episode.ended_at.map(|at| at / 1000)))
            .collect()
    }

    #[test]
    fn a_gap_in_the_samples_is_the_end_of_an_episode() {
        let mut found = episodes();
        // One evaluation missed at 145 is none.
        found.add(labels("a"), [100, 115, 130, 160].map(|at| at * 1000).into_iter());
        // The next window has the last sample again.
        found.add(labels("a"), [160, 175, 300, 315].map(|at| at * 1000).into_iter());
        assert_eq!(times(&found.finish(316_000)), [(100, Some(190)), (300, None)]);
    }

    #[test]
    fn what_stopped_before_the_end_is_over() {
        let mut found = episodes();
        found.add(labels("b"), [200_000].into_iter());
        found.add(labels("a"), [100_000, 115_000].into_iter());
        let found = found.finish(400_000);
        assert_eq!(times(&found), [(100, Some(130)), (200, Some(215))]);
        assert_eq!(found[0].labels.len(), 2, "{:?}", found[0].labels);
    }

    #[test]
    fn annotations_have_their_labels() {
        let text = "{{ $labels.pod }} fails: {{ $value | humanize }} of {{- $labels.nobody -}} {{ open";
        assert_eq!(fill_in(text, &labels("a")), "a fails: … of … ");
    }
}
