//! What is asked and what is answered in one exchange, by its number alone.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use plumbline_drift::SplitMix64;
use plumbline_inference_protocol::coding::Coding;
use plumbline_testkit::predictor::FakePredictor;

use crate::harness::{Answer, h1, h2};
use crate::model::{Rows, Wire, answer, request};
use crate::pieces::Pieces;

/// The header with the exchange's number, from which the model server derives its answer.
pub(crate) const SEED: HeaderName = HeaderName::from_static("x-seed");

/// Good exchanges of each wire format that the others are made from, in stable times and in times of drift.
const EXAMPLES: usize = 24;

/// Exchanges after which the rows that are sent change, from usual ones to shifted ones or back: enough for a sidecar that gets a
/// third of them to see it in its small windows.
pub(crate) const PHASE: u64 = 180;

/// Larger answers than the sidecar of these tests keeps.
const LARGE: usize = 96 << 10;

/// One good exchange.
struct Example {
    wire: Wire,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    answer: Answer,
}

/// Good exchanges, first of usual rows, then of shifted ones.
pub(crate) struct Examples([Vec<Example>; 2]);

impl Examples {
    /// Asks the scripted model server of the other tests.
    pub(crate) async fn collect() -> Self {
        let predictor = FakePredictor::answering(answer).await;
        let mut rows = Rows::seeded(11);
        let mut sets = [Vec::new(), Vec::new()];
        for (shifted, set) in sets.iter_mut().enumerate() {
            for wire in Wire::ALL {
                for number in 0..EXAMPLES {
                    let count = 1 + number % 16;
                    let rows = if shifted == 0 {
                        rows.usual(count)
                    } else {
                        rows.shifted(count)
                    };
                    let (head, body) = request(wire, &rows).into_parts();
                    let body = body.collect().await.expect("in memory").to_bytes();
                    let again = request(wire, &rows);
                    let answer = if wire.is_http2() {
                        h2(predictor.address(), again).await
                    } else {
                        h1(predictor.address(), again).await
                    };
                    assert_eq!(
                        (answer.status, answer.broken),
                        (StatusCode::OK, false),
                        "{wire:?}"
                    );
                    set.push(Example {
                        wire,
                        method: head.method,
                        uri: head.uri,
                        headers: head.headers,
                        body,
                        answer: answer.comparable(),
                    });
                }
            }
        }
        Self(sets)
    }
}

/// Where the model server breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    BeforeHead,
    Within,
}

/// One exchange.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) http2: bool,
    /// Whether the sidecar has to account for it.
    pub(crate) is_prediction: bool,
    /// The client leaves when it has the head; the rest of the answer does not come.
    pub(crate) leaves: bool,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Pieces,
    pub(crate) status: StatusCode,
    pub(crate) answer_headers: HeaderMap,
    pub(crate) answer: Pieces,
    pub(crate) cut: Option<Cut>,
}

/// Draws from a seed.
struct Dice(SplitMix64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.uniform() * bound as f64) as usize
    }

    fn chance(&mut self, percent: f64) -> bool {
        self.0.uniform() * 100.0 < percent
    }

    fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// Leaves a body as it is, or cuts, flips, replaces or empties it.
    fn damage(&mut self, body: &Bytes, percent: f64) -> Vec<u8> {
        let mut bytes = body.to_vec();
        if !self.chance(percent) || bytes.is_empty() {
            return bytes;
        }
        match self.below(5) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 | 2 => {
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len());
                    bytes[at] = self.below(256) as u8;
                }
            }
            3 => {
                let length = self.below(300);
                bytes = self.bytes(length);
            }
            _ => bytes.clear(),
        }
        bytes
    }

    /// Up to six pieces.
    fn pieces(&mut self, bytes: Vec<u8>, told: bool) -> Pieces {
        let told = told.then_some(bytes.len() as u64);
        let mut rest = Bytes::from(bytes);
        let mut data = std::collections::VecDeque::new();
        for _ in 0..self.below(6) {
            if rest.len() < 2 {
                break;
            }
            let at = 1 + self.below(rest.len() - 1);
            data.push_back(rest.split_to(at));
        }
        if !rest.is_empty() {
            data.push_back(rest);
        }
        Pieces {
            data,
            told,
            ..Pieces::default()
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header value")
}

impl Plan {
    /// The exchange number `seed`.
    pub(crate) fn of(seed: u64, examples: &Examples) -> Self {
        let mut dice = Dice(SplitMix64::new(seed));
        let set = &examples.0[(seed / PHASE % 2) as usize];
        let example = &set[dice.below(set.len())];
        let grpc = example.wire.is_http2();
        let http2 = grpc || dice.chance(25.0);
        let mut plan = Self {
            seed,
            http2,
            is_prediction: true,
            leaves: dice.chance(0.3),
            method: example.method.clone(),
            uri: example.uri.clone(),
            headers: example.headers.clone(),
            body: Pieces::default(),
            status: example.answer.status,
            answer_headers: example.answer.headers.clone(),
            answer: Pieces::default(),
            cut: None,
        };
        plan.ask(example, &mut dice);
        plan.reply(example, &mut dice);
        plan
    }

    fn ask(&mut self, example: &Example, dice: &mut Dice) {
        let mut bytes = dice.damage(&example.body, 12.0);
        self.headers.remove(CONTENT_LENGTH);
        self.headers.insert(SEED, self.seed.into());
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        if self.http2 {
            self.headers.remove(HOST);
        } else {
            self.headers.insert(HOST, value("churn.example"));
        }
        if dice.chance(5.0) && !example.wire.is_http2() {
            let coding = dice.one_of(&Coding::ALL);
            self.headers.insert(CONTENT_ENCODING, value(coding.as_str()));
            if dice.chance(80.0) {
                bytes = coding.compress(&bytes).to_vec();
            }
        }
        for _ in 0..dice.below(3) {
            let text: String = (0..dice.below(20))
                .map(|_| char::from(b'a' + dice.below(26) as u8))
                .collect();
            self.headers
                .append(dice.one_of(&["x-one", "x-two", "accept"]), value(&text));
        }
        if dice.chance(4.0) {
            // Nothing that is observed: passed on all the same.
            self.is_prediction = false;
            let path = dice.one_of(&[
                "/v2/models/churn",
                "/v2/health/live?verbose=1",
                "/any%20thing",
                "/",
            ]);
            self.uri = format!("http://churn.example{path}").parse().expect("a URI");
            self.method = dice
                .one_of(&[&Method::GET, &Method::PUT, &Method::DELETE])
                .clone();
            if self.method == Method::GET {
                bytes.clear();
            }
        }
        // A GET without a body has no framing.
        let told = bytes.is_empty() || dice.chance(60.0);
        self.body = dice.pieces(bytes, told);
    }

    fn reply(&mut self, example: &Example, dice: &mut Dice) {
        let mut bytes = dice.damage(&example.answer.body, 15.0);
        let mut trailers = example.answer.trailers.clone();
        self.answer_headers.remove(CONTENT_LENGTH);
        self.answer_headers.remove(TRAILER);
        if dice.chance(1.0) {
            bytes = vec![b'x'; LARGE + dice.below(LARGE)];
        }
        if dice.chance(12.0) {
            self.status = StatusCode::from_u16(dice.one_of(&[
                201, 202, 204, 206, 301, 304, 400, 404, 409, 413, 422, 429, 500, 501, 502, 503, 504,
            ]))
            .expect("a status");
        }
        if dice.chance(8.0) {
            self.answer_headers.insert(
                CONTENT_ENCODING,
                value(dice.one_of(&["gzip", "deflate", "zstd", "odd"])),
            );
            if dice.chance(60.0) {
                bytes = Coding::Gzip.compress(&bytes).to_vec();
            }
        }
        for _ in 0..dice.below(4) {
            let number = value(&dice.below(1_000).to_string());
            self.answer_headers
                .append(dice.one_of(&["set-cookie", "x-answer", "retry-after"]), number);
        }
        if let Some(trailers) = &mut trailers
            && dice.chance(10.0)
        {
            let status = dice.one_of(&["0", "2", "5", "14", "99", "none"]);
            trailers.insert("grpc-status", value(status));
            trailers.insert("grpc-message", value("caf%C3%A9"));
        }
        if dice.chance(5.0) {
            trailers = None;
        }
        if trailers.is_none() && dice.chance(10.0) {
            trailers = Some(HeaderMap::from_iter([(
                HeaderName::from_static("x-checksum"),
                value(&self.seed.to_string()),
            )]));
        }
        if matches!(self.status.as_u16(), 204 | 304) {
            bytes.clear();
            trailers = None;
        }
        let told = trailers.is_none() && (bytes.is_empty() || dice.chance(50.0));
        if let Some(trailers) = trailers.as_ref().filter(|_| !self.http2) {
            // HTTP/1.1 sends none that are not announced.
            for name in trailers.keys() {
                self.answer_headers.append(TRAILER, value(name.as_str()));
            }
        }
        self.answer = dice.pieces(bytes, told);
        self.answer.trailers = trailers;
        if dice.chance(1.5) && !self.answer.data.is_empty() {
            let cut = dice.one_of(&[Cut::BeforeHead, Cut::Within]);
            self.answer.data.truncate(dice.below(self.answer.data.len()));
            (self.answer.cut, self.cut) = (true, Some(cut));
            (self.answer.trailers, self.leaves) = (None, false);
        }
        self.leaves &= !self.answer.data.is_empty();
        if self.leaves {
            // Whatever the buffers in between hold, the answer is not complete when the client leaves.
            (self.answer.held, self.answer.told) = (true, None);
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> Request<Pieces> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = if self.http2 {
            self.uri.clone()
        } else {
            let path = self.uri.path_and_query().expect("a path").as_str();
            path.parse().expect("a path")
        };
        if self.http2 {
            *request.version_mut() = http::Version::HTTP_2;
        }
        request.headers_mut().clone_from(&self.headers);
        request
    }
}
