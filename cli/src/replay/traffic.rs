//! Sends rows at an open-loop rate over several connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rate::Rate;
use super::request::{Dialect, Refusal};
use super::rows::{Rows, RowsError};
use super::tally::Tally;
use crate::client::{Connection, Server};

/// What to send, and how.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) server: Server,
    pub(crate) model: String,
    pub(crate) rows: Rows,
    /// Requests take turns in these dialects. One that cannot carry a row leaves it to binary, if that is among them.
    pub(crate) dialects: Vec<Dialect>,
    /// Rows in a request; the last request may have fewer.
    pub(crate) batch: usize,
    pub(crate) rate: Rate,
    /// Rows to send; the table is repeated as often as needed. `None`: until stopped.
    pub(crate) limit: Option<u64>,
    pub(crate) order: Order,
    /// Draws the order and the rows that a shift changes; equal seeds send equal rows.
    pub(crate) seed: u64,
    pub(crate) concurrency: usize,
    /// For each request.
    pub(crate) timeout: Duration,
}

/// In which order rows go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The table's.
    File,
    /// Each pass over the table in another random order.
    Shuffled,
}

impl Traffic {
    /// Sends everything, or until `stop`; requests on their way are waited for. What became of them goes to `tally`.
    ///
    /// The rate is open-loop: a request that waits for a free connection has its wait in its latency, so a slow server
    /// is not measured by the requests that it delayed.
    pub(crate) async fn send(
        self: Arc<Self>,
        tally: Arc<Tally>,
        stop: CancellationToken,
    ) -> Result<(), RowsError> {
        let dealer = Arc::new(Mutex::new(Dealer::new(&self)));
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..self.concurrency {
            let (traffic, dealer, tally) = (Arc::clone(&self), Arc::clone(&dealer), Arc::clone(&tally));
            let stop = stop.clone();
            connections.spawn(async move {
                let outcome = traffic.connection(&dealer, &tally, started, &stop).await;
                if outcome.is_err() {
                    stop.cancel();
                }
                outcome
            });
        }
        let outcomes: Result<Vec<()>, RowsError> = connections.join_all().await.into_iter().collect();
        outcomes.map(drop)
    }

    async fn connection(
        &self,
        dealer: &Mutex<Dealer>,
        tally: &Tally,
        started: Instant,
        stop: &CancellationToken,
    ) -> Result<(), RowsError> {
        let mut open: Vec<(Dialect, Connection)> = Vec::with_capacity(self.dialects.len());
        while !stop.is_cancelled() {
            let dealt = dealer.lock().unwrap_or_else(PoisonError::into_inner).deal();
            let Some(Dealt {
                number,
                rows,
                mut random,
            }) = dealt
            else {
                break;
            };
            let due = self.rate.due(number, self.batch).map(|due| started + due);
            let inputs = self.rows.tensors(&rows, &mut random)?;
            // A timer that fires late is our delay, a connection that was busy is the server's.
            let mut measured_from = due;
            if due.is_none_or(|due| due > Instant::now()) {
                if let Some(due) = due {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = stop.cancelled() => break,
                    }
                }
                measured_from = None;
            }
            let mut dialect = self.dialects[(number % self.dialects.len() as u64) as usize];
            if self.dialects.contains(&Dialect::V2Binary) && !dialect.can_carry(&inputs) {
                dialect = Dialect::V2Binary;
            }
            let position = open.iter().position(|(known, _)| known.wire() == dialect.wire());
            let position = position.unwrap_or_else(|| {
                open.push((
                    dialect,
                    Connection::new(self.server.clone(), dialect.wire(), self.timeout),
                ));
                open.len() - 1
            });
            let measured_from = measured_from.unwrap_or_else(Instant::now);
            match dialect.predict(&mut open[position].1, &self.model, inputs).await {
                Ok(()) => tally.ok(rows.len(), measured_from.elapsed()),
                Err(Refusal { status, text }) => tally.failed(rows.len(), status, text),
            }
        }
        Ok(())
    }
}

/// Deals rows to connections, so that what is sent does not depend on which connection sends it.
#[derive(Debug)]
struct Dealer {
    /// One pass over the table.
    pass: Vec<usize>,
    next: usize,
    shuffled: bool,
    number: u64,
    batch: usize,
    left: Option<u64>,
    random: fastrand::Rng,
}

struct Dealt {
    number: u64,
    rows: Vec<usize>,
    random: fastrand::Rng,
}

impl Dealer {
    fn new(traffic: &Traffic) -> Self {
        let mut dealer = Self {
            pass: (0..traffic.rows.len()).collect(),
            next: 0,
            shuffled: traffic.order == Order::Shuffled,
            number: 0,
            batch: traffic.batch,
            left: traffic.limit,
            random: fastrand::Rng::with_seed(traffic.seed),
        };
        dealer.begin_pass();
        dealer
    }

    fn begin_pass(&mut self) {
        self.next = 0;
        if self.shuffled {
            self.random.shuffle(&mut self.pass);
        }
    }

    fn deal(&mut self) -> Option<Dealt> {
        let most = self.left.map_or(self.batch, |left| {
            self.batch.min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        if most == 0 {
            return None;
        }
        let mut rows = Vec::with_capacity(most);
        while rows.len() < most {
            if self.next == self.pass.len() {
                self.begin_pass();
            }
            rows.push(self.pass[self.next]);
            self.next += 1;
        }
        if let Some(left) = &mut self.left {
            *left -= most as u64;
        }
        let number = self.number;
        self.number += 1;
        Some(Dealt {
            number,
            rows,
            random: self.random.fork(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::rows::tests::spec;
    use crate::table::tests::table;
    use plumbline_inference_protocol::Datatype;

    fn traffic(order: Order, batch: usize, limit: Option<u64>) -> Traffic {
        let specs = [spec("a", Datatype::Fp32, &[-1, 1])];
        Traffic {
            server: "http://127.0.0.1:1".parse().expect("a URL"),
            model: "churn".to_owned(),
            rows: Rows::fit(table("a\n1\n2\n3\n4\n5\n"), "churn", &specs, Vec::new(), false).expect("fits"),
            dialects: vec![Dialect::V2Json],
            batch,
            rate: Rate::Unlimited,
            limit,
            order,
            seed: 7,
            concurrency: 2,
            timeout: Duration::from_secs(5),
        }
    }

    fn dealt(traffic: &Traffic, requests: usize) -> Vec<Vec<usize>> {
        let mut dealer = Dealer::new(traffic);
        std::iter::from_fn(|| dealer.deal())
            .take(requests)
            .map(|dealt| dealt.rows)
            .collect()
    }

    #[test]
    fn the_table_is_repeated_up_to_the_limit() {
        let rows = dealt(&traffic(Order::File, 3, Some(8)), 100);
        assert_eq!(rows, [vec![0, 1, 2], vec![3, 4, 0], vec![1, 2]]);
    }

    #[test]
    fn every_shuffled_pass_has_every_row_once_and_a_seed_repeats_it() {
        let shuffled = traffic(Order::Shuffled, 5, None);
        let rows = dealt(&shuffled, 20);
        assert!(rows.iter().any(|pass| pass != &rows[0]));
        assert_eq!(rows, dealt(&shuffled, 20));
        for mut pass in rows {
            pass.sort_unstable();
            assert_eq!(pass, [0, 1, 2, 3, 4]);
        }
    }

    #[tokio::test]
    async fn requests_that_nobody_answers_are_counted() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0))
            .and_then(|l| l.local_addr())
            .expect("a port");
        let traffic = Traffic {
            server: free.into(),
            ..traffic(Order::File, 2, Some(5))
        };
        let tally = Arc::new(Tally::default());
        Arc::new(traffic)
            .send(Arc::clone(&tally), CancellationToken::new())
            .await
            .expect("sent");
        let counts = tally.counts();
        assert_eq!((counts.sent, counts.rows, counts.ok), (3, 5, 0));
        assert_eq!(counts.failed["cannot connect"].requests, 3);
    }
}
