use std::sync::Arc;

use http::Method;
use tokio::runtime::Runtime;

use super::*;
use crate::client::{Client, Http, Targets, Transport};
use crate::request::{self, Encoding};
use crate::tally::Fault;

struct Fixture {
    runtime: Runtime,
    replica: Replica,
    client: Client,
}

impl Fixture {
    fn new(behaviour: Behaviour) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let replica = Replica::start(runtime.handle(), listener, 1, behaviour).expect("it starts");
        let targets = Targets::new(vec![replica.address()]);
        let client = Client::new(Arc::clone(&targets), Transport::plain(Http::One), 0);
        Self {
            runtime,
            replica,
            client,
        }
    }

    fn status(&mut self) -> Result<u16, Fault> {
        let body = b"{}".as_slice().into();
        let request =
            request::Request::new(Encoding::Other, Method::POST, "/", &[], body).expect("a request");
        self.runtime
            .block_on(self.client.call(&request, |answer| answer.status))
    }

    /// The kept connection is gone, whether its client has seen that or not, and there is no other.
    fn is_refused(&mut self) {
        assert!(matches!(self.status(), Err(Fault::Lost | Fault::Connect)));
        assert_eq!(self.status(), Err(Fault::Connect));
    }
}

#[test]
fn it_does_what_it_is_told_and_counts_what_reaches_it() {
    let mut fixture = Fixture::new(Behaviour::Answers(Duration::ZERO));
    assert_eq!(fixture.status(), Ok(200));
    fixture
        .replica
        .behave(Behaviour::Refuses(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(fixture.status(), Ok(429));
    fixture.replica.behave(Behaviour::HangsUp);
    assert_eq!(fixture.status(), Err(Fault::Lost));
    assert_eq!(fixture.replica.requests(), 3);
}

#[test]
fn it_dies_and_comes_back_at_the_same_place() {
    let mut fixture = Fixture::new(Behaviour::Answers(Duration::ZERO));
    let address = fixture.replica.address();
    assert_eq!((fixture.status(), fixture.client.made()), (Ok(200), 1));
    fixture.replica.kill();
    fixture.is_refused();
    fixture
        .replica
        .serve(TcpListener::bind(address).expect("free again"))
        .expect("it starts");
    assert_eq!(fixture.status(), Ok(200));
    fixture.replica.terminate(Duration::ZERO).expect("it ends");
    fixture.is_refused();
    assert!(fixture.replica.terminate(Duration::ZERO).is_err());
}

#[test]
fn a_replica_that_leaves_says_so_with_its_answers() {
    let mut fixture = Fixture::new(Behaviour::Answers(Duration::ZERO));
    fixture.replica.state.leaving.store(true, Ordering::Relaxed);
    assert_eq!((fixture.status(), fixture.client.made()), (Ok(200), 1));
    assert_eq!((fixture.status(), fixture.client.made()), (Ok(200), 2));
}
