//! The stack in one process, from start to drain.

use std::net::{TcpListener, TcpStream};

use crate::support::{Done, Model, Running, run};

#[test]
fn up_serves_every_dialect_and_drains_on_ctrl_c() {
    let model = Model::new();
    let (dir, state, rows) = (model.text("tiny"), model.text("state"), model.text("rows.csv"));
    let mut up = Running::start(&["up", &dir, "--any-port", "--state-dir", &state]);
    up.wait_for("Ctrl-C ends it.");
    let gateway = up.server("predict");
    for dialect in ["--json", "--binary", "--v1", "--grpc"] {
        let arguments = [
            "replay",
            &rows,
            "--url",
            &gateway,
            "--model=tiny",
            dialect,
            "--rate=max",
            "--rows=64",
            "--batch=4",
        ];
        let sent = run(&arguments);
        assert_eq!(sent.status, Some(0), "{dialect}: {}{}", sent.out, sent.err);
        assert!(
            sent.out.starts_with("sent     64 rows in 16 requests"),
            "{}",
            sent.out
        );
    }
    let unknown = run(&["replay", &rows, "--url", &gateway, "--model=nope"]);
    assert_eq!(unknown.status, Some(1));
    assert!(
        unknown.err.contains("metadata of model `nope`"),
        "{}",
        unknown.err
    );

    let address = gateway.trim_start_matches("http://").to_owned();
    let done = up.interrupt();
    assert_eq!(done.status, Some(0), "{}{}", done.out, done.err);
    assert!(TcpStream::connect(address).is_err(), "the gateway still listens");
}

/// A start that cannot be: status 1, one line.
fn refused(arguments: &[&str]) -> String {
    let Done { status, out, err } = run(arguments);
    assert_eq!((status, out.as_str()), (Some(1), ""), "{err}");
    err.trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_listening() {
    let model = Model::new();
    let (dir, state) = (model.text("tiny"), model.text("state"));
    // Ports below those that the system gives out by itself: other tests get theirs there.
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    let others = [8081, 8082, 8090, 9901, 9902, 9903, 9904];
    let taken = (2_000..20_000).step_by(101).find_map(|offset| {
        let are_free = others.iter().all(|port| bind(port + offset).is_some());
        bind(8080 + offset).filter(|_| are_free)
    });
    // As the gateway's port it is needed last, when all other ports are open.
    let taken = taken.expect("free ports");
    let port = taken.local_addr().expect("bound").port();
    let offset = (port - 8080).to_string();
    let told = refused(&["up", &dir, "--port-offset", &offset, "--state-dir", &state]);
    assert!(
        told.starts_with(&format!(
            "plumbline: gateway: cannot listen on 127.0.0.1:{port} (listen); another process has the port: stop it or choose another"
        )),
        "{told}"
    );
    assert!(
        told.ends_with("\n  --any-port and --port-offset N take other ports"),
        "{told}"
    );
    for other in others {
        assert!(
            TcpStream::connect(("127.0.0.1", port - 8080 + other)).is_err(),
            "{other} is open"
        );
    }
}

#[test]
fn a_model_that_cannot_be_served_is_told_before_anything_serves() {
    let model = Model::new();
    let state = model.text("state");
    let up = |path: &str| refused(&["up", path, "--any-port", "--state-dir", &state]);
    let missing = model.text("missing");
    assert_eq!(
        up(&missing),
        format!("plumbline: no model at {missing}: no such file or directory")
    );
    std::fs::create_dir(model.path("empty")).expect("created");
    let empty = model.text("empty");
    assert_eq!(
        up(&empty),
        format!(
            "plumbline: no model in {empty}: it has neither an .onnx file nor numbered versions with one"
        )
    );
    std::fs::write(model.path("empty/model.onnx"), "<html>not found</html>").expect("written");
    let told = up(&empty);
    assert!(
        told.contains("not an ONNX model") && told.contains("empty/model.onnx"),
        "{told}"
    );
    std::fs::write(model.path("tiny/profile.json"), "{}").expect("written");
    let told = up(&model.text("tiny"));
    assert!(
        told.contains("profile.json") && told.contains("missing field"),
        "{told}"
    );
}

#[test]
fn the_demo_detects_drift_reports_it_and_ends_with_the_recovery() {
    let model = Model::new();
    let (dir, state, rows) = (model.text("tiny"), model.text("state"), model.text("rows.csv"));
    let demo = |shift: &str, stable_rows: &str, patience: &str| {
        run(&[
            "demo",
            &dir,
            "--rows",
            &rows,
            "--once",
            "--any-port",
            "--state-dir",
            &state,
            "--rate=1000/s",
            "--stable-rows",
            stable_rows,
            "--patience",
            patience,
            "--shift",
            shift,
        ])
    };
    let shown = demo("plan=trial@0.5", "1000", "120");
    assert_eq!(shown.status, Some(0), "{}{}", shown.out, shown.err);
    for text in [
        "stable: 1000 rows observed",
        "drift detected after",
        "report written",
        "sidecar → drift event → worker",
        "recovered after",
        "told once when it began and once when it ended",
    ] {
        assert!(shown.out.contains(text), "no {text:?} in:\n{}", shown.out);
    }
    assert!(!shown.out.contains('\u{1b}'), "colour without a terminal");

    // The same again with rows that do not drift: nothing to detect is a failure.
    let nothing = demo("plan~=nobody has this->x", "100", "3");
    assert_eq!(nothing.status, Some(1), "{}", nothing.out);
    assert!(nothing.err.contains("no drift detected in 3s"), "{}", nothing.err);
}
