//! `plumbline feedback` against something that answers as a sidecar does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::support::run;

/// Answers the requests of one connection, in turn, and returns their heads and bodies.
fn sidecar(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut requests = Vec::new();
        for (status, body) in answers {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("a line") > 0, "the head ends");
            }
            let lower = head.to_ascii_lowercase();
            let length = lower
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split_once("\r\n"));
            let length = length
                .and_then(|(length, _)| length.parse().ok())
                .expect("a length");
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).expect("a body");
            requests.push((head, String::from_utf8(sent).expect("text")));
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).expect("written");
        }
        requests
    });
    (url, serving)
}

fn labels(content: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("labels.csv");
    std::fs::write(&file, content).expect("written");
    let name = file.to_str().expect("text").to_owned();
    (directory, name)
}

#[test]
fn labels_go_out_in_parts_and_what_became_of_them_is_told() {
    let (_directory, file) = labels("request,row,truth\na,0,yes\na,1,no\nb,0,no\n");
    let (url, serving) = sidecar(vec![
        (
            "200 OK",
            r#"{"joined":2,"duplicate":0,"late":0,"unknown":0,"invalid":0,"problems":[]}"#,
        ),
        (
            "200 OK",
            r#"{"joined":0,"duplicate":0,"late":0,"unknown":1,"invalid":0,"problems":[{"index":0,"id":"b","row":0,"outcome":"unknown","reason":"no prediction with this id is known"}]}"#,
        ),
    ]);
    let arguments = [
        "--url", &url, "--id", "request", "--label", "truth", "--model", "churn", "--batch", "2",
    ];
    let done = run(&[&["feedback", &file], &arguments[..]].concat());
    assert_eq!(done.status, Some(1), "{}{}", done.out, done.err);
    for expected in [
        "joined     2",
        "unknown    1",
        "4     unknown  no prediction with this id is known",
    ] {
        assert!(
            done.out.contains(expected),
            "missing {expected:?} in:\n{}",
            done.out
        );
    }
    let requests = serving.join().expect("no panic");
    assert!(
        requests[0]
            .0
            .starts_with("POST /plumbline/v1/feedback HTTP/1.1\r\n"),
        "{}",
        requests[0].0
    );
    assert!(requests[0].0.contains("content-type: application/x-ndjson"));
    let bodies: Vec<&str> = requests.iter().map(|(_, body)| body.as_str()).collect();
    let expected = [
        "{\"id\":\"a\",\"row\":0,\"label\":\"yes\",\"model\":\"churn\"}\n{\"id\":\"a\",\"row\":1,\"label\":\"no\",\"model\":\"churn\"}\n",
        "{\"id\":\"b\",\"row\":0,\"label\":\"no\",\"model\":\"churn\"}\n",
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn a_refusal_is_told_in_one_line() {
    let (_directory, file) = labels("id,label\na,yes\n");
    let (url, serving) = sidecar(vec![("404 Not Found", r#"{"error":"feedback is off"}"#)]);
    let done = run(&["feedback", &file, "--url", &url]);
    assert_eq!((done.status, done.out.as_str()), (Some(1), ""));
    let expected = format!("plumbline: {url} refuses the labels with 404 Not Found: feedback is off\n");
    assert_eq!(done.err, expected);
    serving.join().expect("no panic");
}
