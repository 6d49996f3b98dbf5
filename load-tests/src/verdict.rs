//! Whether an answer is what was asked for: its status, and outputs that are not empty.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::Answer;
use crate::request::Encoding;
use crate::tally::{Fault, Outcome};

/// gRPC's numbers.
const RESOURCE_EXHAUSTED: u16 = 8;
const UNAVAILABLE: u16 = 14;

/// What answers are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Whether 429, 503 and their gRPC equivalents are an answer that a loaded server may give.
    pub may_refuse: bool,
    /// Whether the same bytes get the same bytes, each time.
    pub same_answer: bool,
}

/// The digest of the first answer to each prepared request.
#[derive(Debug)]
pub(crate) struct FirstAnswers(Vec<AtomicU64>);

impl FirstAnswers {
    pub(crate) fn new(requests: usize) -> Self {
        Self((0..requests).map(|_| AtomicU64::new(0)).collect())
    }

    fn is_same(&self, index: usize, body: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        // Zero stands for "none yet".
        let digest = hasher.finish().max(1);
        match self.0[index].compare_exchange(0, digest, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(first) => first == digest,
        }
    }
}

/// Judges the answer to request `index`.
pub(crate) fn judge(
    answer: &Answer<'_>,
    encoding: Encoding,
    index: usize,
    expect: Expect,
    first: &FirstAnswers,
) -> Outcome {
    if answer.status != 200 {
        if expect.may_refuse && (answer.status == 429 || answer.status == 503) {
            return Outcome::Refused {
                retry_after: answer.retry_after,
            };
        }
        return Outcome::Failed(Fault::Status(answer.status));
    }
    if encoding == Encoding::Grpc {
        match answer.grpc_status {
            Some(0) => {}
            // gRPC has no header for when to come back; the status itself says that a retry is right.
            Some(RESOURCE_EXHAUSTED | UNAVAILABLE) if expect.may_refuse => {
                return Outcome::Refused { retry_after: true };
            }
            Some(status) => return Outcome::Failed(Fault::Grpc(status)),
            None => return Outcome::Failed(Fault::Malformed),
        }
    }
    let full = match encoding {
        Encoding::V1 => has_items(answer.body, b"\"predictions\""),
        Encoding::V2 => has_items(answer.body, b"\"outputs\"") && has_items(answer.body, b"\"data\""),
        Encoding::V2Binary => {
            answer.json_length.is_some_and(|json| json < answer.body.len())
                && has_items(answer.body, b"\"outputs\"")
        }
        Encoding::Grpc => has_outputs(answer.body),
        Encoding::Other => true,
    };
    if !full {
        return Outcome::Failed(Fault::Empty);
    }
    if expect.same_answer && !first.is_same(index, answer.body) {
        return Outcome::Failed(Fault::Different);
    }
    Outcome::Ok
}

/// Whether `key` is there and followed by an array with something in it.
fn has_items(body: &[u8], key: &[u8]) -> bool {
    let Some(at) = body.windows(key.len()).position(|window| window == key) else {
        return false;
    };
    let mut rest = body[at + key.len()..]
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    matches!((rest.next(), rest.next(), rest.next()), (Some(b':'), Some(b'['), Some(last)) if *last != b']')
}

/// Whether a framed `ModelInferResponse` has an output and contents: field 5 and field 6, or field 5 in one.
fn has_outputs(body: &[u8]) -> bool {
    let Some((prefix, mut rest)) = body.split_at_checked(5) else {
        return false;
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || rest.len() != length {
        return false;
    }
    let (mut outputs, mut contents) = (false, false);
    while let Some((number, value, after)) = field(rest) {
        match number {
            // Typed contents are the tensor's own field 5.
            5 => {
                outputs = true;
                let mut tensor = value;
                while let Some((number, value, after)) = field(tensor) {
                    contents |= number == 5 && !value.is_empty();
                    tensor = after;
                }
            }
            6 => contents |= !value.is_empty(),
            _ => {}
        }
        rest = after;
    }
    outputs && contents && rest.is_empty()
}

/// The next protobuf field: its number, its bytes (empty unless length-delimited), and what follows.
fn field(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (skipped, rest) = match key & 7 {
        0 => (0, varint(rest)?.1),
        1 => (8, rest),
        2 => {
            let (length, rest) = varint(rest)?;
            let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            return Some((key >> 3, value, after));
        }
        5 => (4, rest),
        _ => return None,
    };
    Some((key >> 3, &[], rest.get(skipped..)?))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Answer<'_> {
        Answer {
            status: 200,
            grpc_status: None,
            retry_after: false,
            json_length: None,
            body,
        }
    }

    fn judged(answer: &Answer<'_>, encoding: Encoding) -> Outcome {
        judge(answer, encoding, 0, Expect::default(), &FirstAnswers::new(1))
    }

    #[test]
    fn outputs_must_be_there_and_hold_something() {
        let good = br#"{"model_name":"m","outputs": [{"name":"y","shape":[1],"data": [0.5]}]}"#;
        assert_eq!(judged(&answer(good), Encoding::V2), Outcome::Ok);
        let empty = [
            &br#"{"model_name":"m"}"#[..],
            br#"{"outputs":[]}"#,
            br#"{"outputs":[{"name":"y","data":[ ]}]}"#,
        ];
        for body in empty {
            assert_eq!(judged(&answer(body), Encoding::V2), Outcome::Failed(Fault::Empty));
        }
        assert_eq!(
            judged(&answer(br#"{"predictions":[[1]]}"#), Encoding::V1),
            Outcome::Ok
        );
        let binary = Answer {
            json_length: Some(14),
            ..answer(b"{\"outputs\":[1]}xxxx")
        };
        assert_eq!(judged(&binary, Encoding::V2Binary), Outcome::Ok);
        assert_eq!(
            judged(&answer(binary.body), Encoding::V2Binary),
            Outcome::Failed(Fault::Empty)
        );
    }

    #[test]
    fn a_grpc_answer_needs_its_status_and_contents() {
        // Field 5: an output with a name; field 6: four bytes.
        let message = [0x2a, 3, 0x0a, 1, b'y', 0x32, 4, 0, 0, 0, 0];
        let body = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
        let good = Answer {
            grpc_status: Some(0),
            ..answer(&body)
        };
        assert_eq!(judged(&good, Encoding::Grpc), Outcome::Ok);
        let without = Answer {
            grpc_status: None,
            ..good
        };
        assert_eq!(
            judged(&without, Encoding::Grpc),
            Outcome::Failed(Fault::Malformed)
        );
        let refused = Answer {
            grpc_status: Some(8),
            ..answer(b"")
        };
        assert_eq!(judged(&refused, Encoding::Grpc), Outcome::Failed(Fault::Grpc(8)));
        for length in [0, 5] {
            let body = [
                &[0, 0, 0, 0, length as u8][..],
                &message[..length.min(message.len())],
            ]
            .concat();
            let empty = Answer {
                grpc_status: Some(0),
                ..answer(&body)
            };
            assert_eq!(judged(&empty, Encoding::Grpc), Outcome::Failed(Fault::Empty));
        }
    }

    #[test]
    fn refusals_count_as_such_only_where_they_may() {
        let refused = Answer {
            status: 429,
            retry_after: true,
            ..answer(b"")
        };
        assert_eq!(
            judged(&refused, Encoding::V2),
            Outcome::Failed(Fault::Status(429))
        );
        let expect = Expect {
            may_refuse: true,
            ..Expect::default()
        };
        let outcome = judge(&refused, Encoding::V2, 0, expect, &FirstAnswers::new(1));
        assert_eq!(outcome, Outcome::Refused { retry_after: true });
    }

    #[test]
    fn the_same_bytes_get_the_same_answer() {
        let (first, expect) = (
            FirstAnswers::new(2),
            Expect {
                same_answer: true,
                ..Expect::default()
            },
        );
        let judged = |body: &[u8], index| judge(&answer(body), Encoding::V1, index, expect, &first);
        assert_eq!(judged(br#"{"predictions":[1]}"#, 0), Outcome::Ok);
        assert_eq!(judged(br#"{"predictions":[2]}"#, 1), Outcome::Ok);
        assert_eq!(judged(br#"{"predictions":[1]}"#, 0), Outcome::Ok);
        assert_eq!(
            judged(br#"{"predictions":[1]}"#, 1),
            Outcome::Failed(Fault::Different)
        );
    }
}
