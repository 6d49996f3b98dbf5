//! What becomes of exchanges and events, by the sidecar's own counts and by the sink's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use plumbline_testkit::predictor::{Cut, FakePredictor, Received, Reply};

use crate::harness::{TestSidecar, eventually, exposition};

const STATE: &str = r#"plumbline_drift_state{model="churn",subject="model",version="3"}"#;

/// Rows not observed, by reason; each exchange was observed or skipped.
pub(crate) async fn skipped_rows(sidecar: &TestSidecar, sent: u64) -> BTreeMap<String, u64> {
    sidecar.nothing_is_lost(sent).await;
    counts(sidecar, "plumbline_rows_skipped_total", "reason")
}

/// The series of a name, summed for each value of a label.
fn counts(sidecar: &TestSidecar, name: &str, label: &str) -> BTreeMap<String, u64> {
    let label = format!("{label}=\"");
    let mut counts = BTreeMap::new();
    for line in exposition(&sidecar.process).lines() {
        let Some((labels, count)) = line.strip_prefix(name).and_then(|rest| rest.rsplit_once(' ')) else {
            continue;
        };
        if let Some((_, rest)) = labels.split_once(&label)
            && let Some((value, _)) = rest.split_once('"')
        {
            *counts.entry(value.to_owned()).or_default() += count.parse::<f64>().expect("a count") as u64;
        }
    }
    counts
}

/// The sidecar's counts of its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) raised: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) coalesced: u64,
    pub(crate) overflowed: u64,
    pub(crate) retried: u64,
    pub(crate) pending: u64,
    /// Whether an episode is under way, whose end has not been raised.
    pub(crate) is_open: bool,
}

impl Events {
    pub(crate) fn of(sidecar: &TestSidecar) -> Self {
        let counts = counts(sidecar, "plumbline_sidecar_events_total", "outcome");
        Self {
            raised: counts["raised"],
            delivered: counts["delivered"],
            refused: counts["refused"],
            coalesced: counts["coalesced"],
            overflowed: counts["overflowed"],
            retried: counts["retried"],
            pending: sidecar.metric("plumbline_sidecar_events_pending") as u64,
            is_open: sidecar.metric(STATE) == 2.0,
        }
    }

    /// Every event has been dealt with or waits.
    pub(crate) fn balance(&self) -> bool {
        self.raised == self.delivered + self.refused + self.coalesced + self.overflowed + self.pending
    }

    /// The counts when they balance, and no event waits where a sink takes them; each is looked at while others change.
    pub(crate) async fn settled(sidecar: &TestSidecar, sink: Option<&MoodySink>) -> Self {
        let settled = |events: &Self| events.balance() && (sink.is_none() || events.pending == 0);
        eventually("raised = delivered + dropped + pending", || {
            settled(&Self::of(sidecar))
        })
        .await;
        Self::of(sidecar)
    }

    /// What the sink has to say against it.
    pub(crate) fn contradictions(&self, told: &Told) -> Vec<String> {
        let mut contradictions = Vec::new();
        let mut check = |what: &str, counted: u64, seen: u64| {
            if counted != seen {
                contradictions.push(format!("{what}: {counted} by the sidecar, {seen} by the sink"));
            }
        };
        check("delivered", self.delivered, told.taken);
        check("refused", self.refused, told.refused);
        check("retried", self.retried, told.put_off);
        // What was dropped to make room had not been sent; what was sent, however often, is one event.
        let unseen = self.coalesced + self.overflowed;
        check("raised and sent", self.raised - unseen, told.ids.len() as u64);
        // Episodes are numbered one after the other and have two events each.
        let of_episodes = 2 * told.episodes() - u64::from(self.is_open);
        check("raised in all", self.raised, of_episodes);
        contradictions
    }
}

/// What a sink has said to events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    taken: u64,
    refused: u64,
    put_off: u64,
    /// The events that have come.
    ids: BTreeSet<String>,
}

impl Told {
    /// The number of the newest episode, `MODEL-PROFILE-INSTANCE-NUMBER`; an event adds what it tells.
    fn episodes(&self) -> u64 {
        let number = |id: &String| id.rsplit('-').nth(1)?.parse().ok();
        self.ids.iter().filter_map(number).max().unwrap_or(0)
    }

    fn answer(&mut self, event: &Received) -> Reply {
        let json: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
        self.ids.insert(json["id"].as_str().expect("an id").to_owned());
        let count = match self.taken + self.refused + self.put_off {
            turn if turn % 16 == 3 => {
                self.put_off += 1;
                return Reply::status(StatusCode::SERVICE_UNAVAILABLE);
            }
            turn if turn % 32 == 7 => {
                self.put_off += 1;
                return Reply::status(StatusCode::ACCEPTED).cut(Cut::BeforeHead);
            }
            turn if turn % 8 == 5 => {
                self.refused += 1;
                return Reply::status(StatusCode::BAD_REQUEST);
            }
            _ => &mut self.taken,
        };
        *count += 1;
        Reply::status(StatusCode::ACCEPTED)
    }
}

/// A sink that takes events, puts them off, hangs up on them and refuses them by turns.
pub(crate) struct MoodySink {
    server: FakePredictor,
    told: Arc<Mutex<Told>>,
}

impl MoodySink {
    pub(crate) async fn start() -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let answering = Arc::clone(&told);
        let server = FakePredictor::answering(move |event| {
            let mut told = answering.lock().unwrap_or_else(PoisonError::into_inner);
            told.answer(event)
        })
        .await;
        Self { server, told }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_lost_is_found() {
        let ids = [
            "7-detected",
            "7-recovered",
            "8-recovered",
            "9-detected",
            "9-recovered",
            "10-detected",
        ];
        let told = Told {
            taken: 5,
            refused: 1,
            put_off: 2,
            ids: ids.iter().map(|id| format!("churn-a1-0f-{id}")).collect(),
        };
        let good = Events {
            raised: 19,
            delivered: 5,
            refused: 1,
            coalesced: 12,
            overflowed: 1,
            retried: 2,
            pending: 0,
            is_open: true,
        };
        assert!(good.balance());
        assert_eq!(good.contradictions(&told), Vec::<String>::new());

        let changes: [fn(&mut Events); 6] = [
            |events| events.delivered -= 1,
            |events| events.refused -= 1,
            |events| events.coalesced -= 1,
            |events| events.overflowed -= 1,
            |events| events.pending += 1,
            |events| events.raised -= 1,
        ];
        for change in changes {
            let mut events = good;
            change(&mut events);
            assert!(!events.balance(), "{events:?}");
        }
        // Counts that balance and are wrong.
        let changes: [fn(&mut Events); 4] = [
            // It never came to the outbox.
            |events| (events.raised, events.coalesced) = (events.raised - 1, events.coalesced - 1),
            // The sink did not take it.
            |events| (events.delivered, events.coalesced) = (events.delivered + 1, events.coalesced - 1),
            |events| (events.delivered, events.refused) = (events.delivered + 1, events.refused - 1),
            // The end of the last episode.
            |events| events.is_open = false,
        ];
        for change in changes {
            let mut events = good;
            change(&mut events);
            assert!(!events.contradictions(&told).is_empty(), "{events:?}");
        }
    }
}
