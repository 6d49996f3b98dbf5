//! HTTP/2 that wears a server out, or that another protocol's reader would read in two ways.

use super::Scene;
use super::frames::*;
use crate::support::{FakePredictor, Reply};

/// Streams of a client, from the first on.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|index| 2 * index + 1)
}

/// CVE-2023-44487.
#[tokio::test]
async fn a_client_that_resets_what_it_asks_for_is_sent_away() {
    let scene = Scene::with(FakePredictor::holding(Reply::echo).await, |_| {}).await;
    let head = predict(&[]);
    let flood: Vec<u8> = streams(100_000)
        .flat_map(|stream| {
            [
                frame(HEADERS, END_HEADERS, stream, &head),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        })
        .collect();
    let frames = Connection::open(scene.gateway.address, &[])
        .await
        .flood(&flood)
        .await;
    assert_eq!(goaway(&frames), Some(ENHANCE_YOUR_CALM));
    scene.unharmed().await;
}

/// CVE-2025-8671: the server resets, because the client breaks a rule of each stream.
#[tokio::test]
async fn a_client_that_has_its_requests_reset_is_sent_away() {
    let scene = Scene::with(FakePredictor::holding(Reply::echo).await, |_| {}).await;
    let head = predict(&[]);
    let flood: Vec<u8> = streams(20_000)
        .flat_map(|stream| {
            [
                frame(HEADERS, END_HEADERS, stream, &head),
                frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]), // beyond what a window can be
            ]
            .concat()
        })
        .collect();
    let frames = Connection::open(scene.gateway.address, &[])
        .await
        .flood(&flood)
        .await;
    assert_eq!(goaway(&frames), Some(ENHANCE_YOUR_CALM));
    scene.unharmed().await;
}

/// VU#421644.
#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let scene = Scene::start().await;
    let piece = block(&[(b"x", &[b'y'; 100])]).repeat(100);
    let mut flood = frame(HEADERS, 0, 1, &predict(&[]));
    for _ in 0..5_000 {
        flood.extend(frame(CONTINUATION, 0, 1, &piece));
    }
    let frames = Connection::open(scene.gateway.address, &[])
        .await
        .flood(&flood)
        .await;
    assert_eq!(goaway(&frames), Some(ENHANCE_YOUR_CALM), "{frames:?}");
    assert_eq!(scene.predictor.received_so_far(), 0);
    scene.unharmed().await;
}

/// CVE-2019-9518.
#[tokio::test]
async fn a_flood_of_empty_frames_is_given_up_and_a_single_one_is_an_end() {
    let scene = Scene::start().await;
    let mut flood = frame(HEADERS, END_HEADERS, 1, &predict(&[]));
    for _ in 0..200_000 {
        flood.extend(frame(DATA, 0, 1, &[]));
    }
    let frames = Connection::open(scene.gateway.address, &[])
        .await
        .flood(&flood)
        .await;
    assert_eq!(goaway(&frames), Some(ENHANCE_YOUR_CALM), "{frames:?}");
    let mut connection = Connection::open(scene.gateway.address, &[]).await;
    let whole = [
        frame(HEADERS, END_HEADERS, 1, &predict(&[])),
        frame(DATA, 0, 1, b"hello"),
        frame(DATA, END_STREAM, 1, &[]),
    ];
    connection.send(&whole.concat()).await;
    assert_eq!(connection.next().await.map(|frame| frame.kind), Some(HEADERS));
    let data = connection.next().await.expect("an answer");
    assert_eq!((data.kind, data.payload), (DATA, b"hello".to_vec()));
    scene.unharmed().await;
}

/// CVE-2019-9512 and 9515: each asks for an answer.
#[tokio::test]
async fn floods_of_pings_and_settings_hold_up_nobody() {
    let scene = Scene::start().await;
    for one in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let frames = Connection::open(scene.gateway.address, &[])
            .await
            .flood(&one.repeat(50_000))
            .await;
        // Answered or sent away, not left waiting.
        assert!(
            frames.len() > 50_000 || goaway(&frames).is_some(),
            "{}",
            frames.len()
        );
    }
    scene.unharmed().await;
}

/// A large field in the table of the connection, named a thousand times by one byte each.
#[tokio::test]
async fn heads_count_by_what_they_say_not_by_their_bytes() {
    let scene = Scene::start().await;
    let mut bomb = predict(&[]);
    bomb.extend([0x40, 1, b'x', 0x7f, 0x81, 0x17]); // with indexing, a value of 127 + 1 + 23 · 128 bytes
    bomb.extend(vec![b'y'; 3_072]);
    bomb.extend(vec![0xbe; 1_000]); // the newest field, 62
    let mut connection = Connection::open(scene.gateway.address, &[]).await;
    connection
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
        .await;
    let answer = connection.next().await.expect("an answer");
    assert_eq!((answer.kind, answer.error()), (GOAWAY, ENHANCE_YOUR_CALM));
    // A table larger than was agreed on.
    let mut connection = Connection::open(scene.gateway.address, &[]).await;
    let larger = [vec![0x3f, 0xff, 0xff, 0xff, 0x0f], predict(&[])].concat();
    connection
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &larger))
        .await;
    let answer = connection.next().await.expect("an answer");
    assert_eq!(answer.kind, GOAWAY, "{answer:?}");
    assert_eq!(scene.predictor.received_so_far(), 0);
    scene.unharmed().await;
}

const INFER: &str = "/v2/models/churn/infer";

/// Fields and framings that an HTTP/1.1 endpoint would take for something else.
#[tokio::test]
async fn what_has_no_form_in_http1_never_becomes_it() {
    let scene = Scene::start().await;
    let heads: Vec<Vec<u8>> = [
        (&b"x"[..], &b"a\r\nb: c"[..]),
        (b"x", b"a\nb: c"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"x\r\ny", b"a"),
        (b"X", b"a"),
        (b"", b"a"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"content-length", b"4"),
        (b"content-length", b"+5"),
        (b"content-length", b"5, 5"),
        (b"host", b"other"),
        (b"host", b"gate way"),
        (b":path", b"/v2/models/churn/infer"),
        (b":method", b"GET"),
        (b":unknown", b"a"),
        (b":status", b"200"),
    ]
    .iter()
    .map(|field| predict(&[*field]))
    .chain(
        [
            ("POST", Some("http"), Some("gateway"), ""),
            (
                "POST",
                Some("http"),
                Some("gateway"),
                "/v2/models/churn HTTP/1.1\r\nx: y",
            ),
            ("PO ST", Some("http"), Some("gateway"), INFER),
            ("POST", Some("http"), Some("user@gateway"), INFER),
            ("POST", Some("http"), Some("gate way"), INFER),
            ("POST", Some("ftp"), Some("gateway"), INFER),
            ("POST", Some("http"), None, INFER),
            ("POST", None, None, INFER),
        ]
        .map(|(method, scheme, authority, path)| {
            let fields = [
                (&b":method"[..], Some(method)),
                (b":scheme", scheme),
                (b":authority", authority),
                (b":path", Some(path)),
            ];
            let given = fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?.as_bytes())));
            block(&given.collect::<Vec<_>>())
        }),
    )
    .collect();
    for head in heads {
        let mut connection = Connection::open(scene.gateway.address, &[]).await;
        let request = [
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, END_STREAM, 1, b"hello"),
        ];
        connection.send(&request.concat()).await;
        let answer = connection.next().await.expect("an answer");
        // A stream or connection error, or 400 (index 12 of HPACK's static table).
        let is_400 = answer.kind == HEADERS && answer.payload[0] == 0x8c;
        assert!(
            matches!(answer.kind, RST_STREAM | GOAWAY) || is_400,
            "{}: {answer:?}",
            head.escape_ascii()
        );
        assert_eq!(scene.predictor.received_so_far(), 0, "{}", head.escape_ascii());
    }
    scene.unharmed().await;
}
