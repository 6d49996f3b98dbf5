use std::io::Write as _;

use plumbline_service::config::{Outcome, Problems, load};

use super::*;

fn load_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let settings: &[&[Setting]] = &[&Common::settings("0.0.0.0:8080", "0.0.0.0:9901"), SETTINGS];
    let arguments = arguments.iter().map(ToString::to_string);
    let variables = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    match load("gateway", settings, arguments, variables, Config::read)? {
        Outcome::Start {
            config: (_, config), ..
        } => Ok(config),
        other => panic!("expected a configuration, got {other:?}"),
    }
}

fn load_file(text: &str) -> Result<Config, Problems> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    load_with(&["--config", file.path().to_str().expect("a text path")], &[])
}

fn shown(config: &Config) -> Vec<(String, Vec<String>)> {
    let endpoints = |route: &RouteSpec| {
        route.revisions[0]
            .endpoints
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    config
        .routes
        .iter()
        .map(|route| (route.model.clone(), endpoints(route)))
        .collect()
}

#[test]
fn routes_come_from_the_file() {
    let config = load_file(
        "request_timeout = \"5s\"\n\
         [[route]]\nmodel = \"churn\"\nendpoints = [\"http://127.0.0.1:8081\", \"unix:/run/churn.sock\"]\n\
         timeout = \"250ms\"\nmax_body = \"1MiB\"\n\
         [[route]]\nmodel = \"iris\"\nendpoints = [\"http://predictor:80\"]\n",
    )
    .expect("valid");
    assert_eq!(
        shown(&config),
        [
            (
                "churn".to_owned(),
                vec![
                    "http://127.0.0.1:8081".to_owned(),
                    "unix:/run/churn.sock".to_owned()
                ]
            ),
            ("iris".to_owned(), vec!["http://predictor:80".to_owned()]),
        ]
    );
    assert_eq!(config.routes[0].timeout, Duration::from_millis(250));
    assert_eq!(config.routes[0].max_body, ByteSize(1 << 20));
    assert_eq!(config.routes[1].timeout, Duration::from_secs(5));
    assert_eq!(config.routes[1].max_body, ByteSize(64 << 20));
}

#[test]
fn flags_and_a_variable_say_the_same_in_one_line() {
    let expected = [
        (
            "churn".to_owned(),
            vec!["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()],
        ),
        ("iris".to_owned(), vec!["http://127.0.0.1:3".to_owned()]),
    ];
    let flags = [
        "--route",
        "churn=http://127.0.0.1:1,http://127.0.0.1:2",
        "--route",
        "iris=http://127.0.0.1:3",
    ];
    assert_eq!(shown(&load_with(&flags, &[]).expect("valid")), expected);
    let variable = "churn=http://127.0.0.1:1,http://127.0.0.1:2,iris=http://127.0.0.1:3";
    let config = load_with(&[], &[("PLUMBLINE_GATEWAY_ROUTE", variable)]).expect("valid");
    assert_eq!(shown(&config), expected);
}

#[test]
fn every_problem_with_routes_is_told_at_once() {
    let text = load_file(
        "max_in_flight = 0\n\
         [[route]]\nmodel = \"churn\"\nendpoints = [\"127.0.0.1:8081\", \"https://a\", \"http://b/path\"]\n\
         [[route]]\nmodel = \"churn\"\nendpoints = [\"http://a\", \"http://a\"]\ntimeout = 5\nwieght = 3\n\
         [[route]]\nendpoints = \"http://a\"\n\
         [[route]]\nmodel = \"unknown\"\nendpoints = [\"http://a\"]\nmax_body = \"big\"\n",
    )
    .expect_err("many problems")
    .to_string();
    for expected in [
        "max_in_flight = 0",
        "route 1: endpoint `127.0.0.1:8081`: expected an endpoint such as",
        "route 1: endpoint `https://a`: TLS to an endpoint is not supported",
        "route 1: endpoint `http://b/path`: an endpoint has no path",
        "model `churn` has no endpoint",
        "model `churn` has more than one route",
        "model `churn` has endpoint `http://a` twice",
        "route 2: `timeout`: expected a time with a unit",
        "route 2: unknown key `wieght`; there are concurrency, endpoints, fallback, guard, hedge, hedge_after, hold, hold_max, hosts, idempotent, match, max_body, mirror, model, retry_budget, revision, slow_start, sticky, timeout",
        "route 3: `model` is missing",
        "route 3: `endpoints`: expected a list of texts",
        "model `unknown` has a name that is reserved",
        "route 4: `max_body`: expected a number of bytes",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn a_flag_without_a_model_or_an_endpoint_is_a_problem() {
    for (flag, expected) in [
        ("http://127.0.0.1:1", "expected MODEL=URL[,URL]"),
        ("churn=", "model `churn` has no endpoint"),
        ("=http://a", "model `` is not a name"),
        (
            "churn=nonsense",
            "endpoint `nonsense`: expected an endpoint such as",
        ),
    ] {
        let text = load_with(&["--route", flag], &[]).expect_err(flag).to_string();
        assert!(text.contains(expected), "{flag}: {text}");
    }
}

#[test]
fn a_gateway_without_routes_is_valid() {
    assert!(load_with(&[], &[]).expect("valid").routes.is_empty());
}

#[test]
fn a_route_has_revisions_with_weights() {
    let text = "[[route]]\nmodel = \"churn\"\n\
         [[route.revision]]\nname = \"stable\"\nweight = 90\nendpoints = [\"http://a\", \"http://b\"]\n\
         [[route.revision]]\nname = \"canary\"\nweight = 10\nendpoints = [\"http://c\"]\n";
    let config = load_file(text).expect("valid");
    let shown: Vec<_> = config.routes[0]
        .revisions
        .iter()
        .map(|revision| (revision.name.as_str(), revision.weight, revision.endpoints.len()))
        .collect();
    assert_eq!(shown, [("stable", 90, 2), ("canary", 10, 1)]);

    let text = load_file(
        "[[route]]\nmodel = \"a\"\nendpoints = [\"http://a\"]\n\
         [[route.revision]]\nname = \"x\"\nendpoints = [\"http://a\"]\n\
         [[route]]\nmodel = \"b\"\n\
         [[route.revision]]\nname = \"x\"\nweight = 0\nendpoints = [\"http://a\"]\n\
         [[route.revision]]\nname = \"x\"\nweight = -1\nendpoint = [\"http://a\"]\n\
         [[route]]\nmodel = \"c\"\n\
         [[route.revision]]\nname = \"x\"\nweight = 0\nendpoints = [\"http://a\"]\n\
         [[route.revision]]\nendpoints = [\"http://a\"]\nweight = 0\n",
    )
    .expect_err("many problems")
    .to_string();
    for expected in [
        "route 1: expected `endpoints` or `revision`, found both",
        "route 2: revision 2: `weight`: expected",
        "route 2: revision 2: unknown key `endpoint`; there are endpoints, name, weight",
        "model `b` has more than one revision `x`",
        "model `b` has no endpoint in revision `x`",
        "route 3: revision 2: `name` is missing",
        "model `c` has endpoint `http://a` twice",
        "model `c` has no revision with a weight above 0",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn a_route_says_how_it_is_protected() {
    let config = load_file(
        "[[route]]\nmodel = \"a\"\nendpoints = [\"http://a\"]\n\
         idempotent = true\nretry_budget = 10\nhedge = true\nslow_start = \"0\"\nhold = \"30s\"\nhold_max = 7\n\
         [route.concurrency]\nmax = 50\n\
         [[route]]\nmodel = \"b\"\nendpoints = [\"http://b\"]\nidempotent = true\nhedge_after = \"50ms\"\n\
         [[route]]\nmodel = \"c\"\nendpoints = [\"http://c\"]\n",
    )
    .expect("valid");
    let protection = |index: usize| config.routes[index].protection.clone();
    assert_eq!(
        protection(0),
        ProtectionSpec {
            idempotent: true,
            retry_budget: 10,
            hedge: Some(HedgeAfter::Percentile(95)),
            slow_start: Duration::ZERO,
            concurrency: Some(ConcurrencySpec { min: 4, max: 50 }),
            hold: Duration::from_secs(30),
            hold_max: 7,
        }
    );
    assert_eq!(
        protection(1).hedge,
        Some(HedgeAfter::Time(Duration::from_millis(50)))
    );
    assert_eq!(protection(2), ProtectionSpec::default());
}

#[test]
fn problems_with_protection_are_told_with_their_place() {
    let text = load_file(
        "[[route]]\nmodel = \"a\"\nendpoints = [\"http://a\"]\nhedge = true\nretry_budget = 101\nhold = 5\n\
         [route.concurrency]\nmin = 9\nmax = 3\nmean = 4\n\
         [[route]]\nmodel = \"b\"\nendpoints = [\"http://b\"]\nidempotent = \"yes\"\nhedge_after = \"p100\"\n",
    )
    .expect_err("many problems")
    .to_string();
    for expected in [
        "route 1: `hedge` sends a request twice; it needs `idempotent = true`",
        "route 1: `retry_budget`: expected a percentage, 0 to 100",
        "route 1: `hold`: expected a time with a unit",
        "route 1: concurrency: expected 1 ≤ `min` ≤ `max`, found min = 9 and max = 3",
        "route 1: concurrency: unknown key `mean`; there are max, min",
        "route 2: `idempotent`: expected true or false",
        "route 2: `hedge_after`: expected a percentile or a time: p95 or 50ms",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

const TWO_REVISIONS: &str = "[[route]]\nmodel = \"churn\"\n\
     [[route.revision]]\nname = \"stable\"\nendpoints = [\"http://a\"]\n\
     [[route.revision]]\nname = \"canary\"\nweight = 0\nendpoints = [\"http://b\"]\n";

#[test]
fn a_route_has_hosts_matches_stickiness_a_fallback_and_a_mirror() {
    let text = TWO_REVISIONS.replace(
        "model = \"churn\"\n",
        "model = \"churn\"\nhosts = [\"churn.example.com\"]\nsticky = \"header:x-user\"\nfallback = \"canary\"\n",
    ) + "[[route.match]]\nheader = \"X-Cohort\"\nvalue = \"beta\"\nrevision = \"canary\"\n\
         [route.mirror]\nrevision = \"canary\"\nshare = 0.25\nmax_in_flight = 4\nmax_bytes = \"1MiB\"\ncompare = true\n";
    let config = load_file(&text).expect("valid");
    let route = &config.routes[0];
    assert_eq!(route.hosts, ["churn.example.com"]);
    assert_eq!(
        route.sticky,
        Some(Sticky::Header("x-user".parse().expect("a name")))
    );
    assert_eq!(route.fallback.as_deref(), Some("canary"));
    let matched = &route.matches[0];
    assert_eq!(
        (matched.header.as_str(), &*matched.revision),
        ("x-cohort", "canary")
    );
    assert_eq!(matched.value, "beta");
    let mirror = route.mirror.as_ref().expect("a mirror");
    assert_eq!(mirror.to, MirrorTo::Revision("canary".to_owned()));
    assert_eq!(
        (mirror.share.millionths(), mirror.max_in_flight.get()),
        (250_000, 4)
    );
    assert_eq!((mirror.max_bytes, mirror.compare), (ByteSize(1 << 20), true));
}

#[test]
fn what_routes_say_of_their_parts_is_checked() {
    let text = TWO_REVISIONS.replace(
        "model = \"churn\"\n",
        "model = \"churn\"\nhosts = [\"a.example.com:80\", \"B\", \"b.\"]\nsticky = \"cookie\"\nfallback = \"gone\"\n",
    ) + "[[route.match]]\nheader = \"x y\"\nvalue = \"\\u0007\"\nrevision = \"canary\"\n\
         [[route.match]]\nheader = \"x\"\nvalue = \"y\"\nrevision = \"none\"\n\
         [route.mirror]\nrevision = \"canary\"\nendpoints = []\nshare = 1.5\nmax_in_flight = 0\ncompare = 1\n\
         [[route]]\nmodel = \"iris\"\nendpoints = [\"http://c\"]\n[route.mirror]\nendpoints = []\nshare = 0.0000001\n";
    let text = load_file(&text).expect_err("many problems").to_string();
    for expected in [
        "model `churn` has host `a.example.com:80`; expected a name such as",
        "model `churn` has host `b.`, which is taken already",
        "route 1: `sticky`: expected header:NAME",
        "model `churn` has `fallback` with revision `gone`; there are stable, canary",
        "route 1: match 1: `header`: expected the name of a header, found `x y`",
        "route 1: match 1: `value`: expected the value of a header",
        "model `churn` has `match` with revision `none`",
        "route 1: mirror: expected either `revision` or `endpoints`",
        "route 1: mirror: `share`: expected a share above 0 and at most 1",
        "route 1: mirror: `max_in_flight`: ",
        "route 1: mirror: `compare`: expected true or false",
        "model `iris` has a `mirror` without an endpoint",
        "route 2: mirror: `share`: expected a share above 0",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn limits_of_heads_have_bounds_and_certificates_belong_together() {
    let text = load_file(
        "max_header_bytes = \"1B\"\nmax_headers = 5000\nmax_target = \"1MiB\"\n\
         [[tls_certificate]]\ncert = \"/a.crt\"\n\
         [[tls_certificate]]\ncert = \"/b.crt\"\nkey = \"/b.key\"\n\
         [access]\nkey = \"/keys.toml\"\n",
    )
    .expect_err("many problems")
    .to_string();
    for expected in [
        "must be between 256 and 256KiB",
        "must be at most 1000",
        "must be between 256 and 64KiB",
        "certificate 1: `key` is missing",
        "needs tls_cert and tls_key, for clients that name no server",
        "access: unknown key `key`; there are allow, forward_credentials, issuer, keys, limit",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
    let config = load_file("max_headers = 200\n[[access.limit]]\nrate = \"10/s\"\n").expect("valid");
    assert_eq!(config.head.headers, 200);
    assert_eq!(config.access.limits.len(), 1);
    assert!(config.access.allow.is_none() && config.tls.is_none());
}

#[test]
fn the_pages_that_may_ask_are_read_and_checked() {
    let load = |text: &str| load_file(&format!("[cors]\n{text}"));
    let cors = load(
        "origins = [\"https://app.example\", \"http://localhost:3000\"]\nheaders = [\"X-Key\"]\ncredentials = true\nmax_age = \"1h\"\n",
    );
    let cors = cors.expect("valid").cors.expect("a table");
    assert_eq!(cors.origins.map(|origins| origins.len()), Some(2));
    assert_eq!((cors.headers[0].as_str(), cors.credentials), ("x-key", true));
    assert_eq!(cors.max_age, Duration::from_hours(1));
    let all = load("origins = [\"*\"]\n").expect("valid").cors;
    assert_eq!(all, Some(CorsSpec::default()));
    assert!(load_file("").expect("valid").cors.is_none());
    for (text, told) in [
        ("", "`origins`: expected"),
        (
            "origins = [\"*\"]\ncredentials = true\n",
            "`credentials` needs the origins by name",
        ),
        ("origins = [\"*\", \"http://a\"]\n", "`*`: expected an origin"),
        ("origins = [\"https://App.example\"]\n", "expected an origin"),
        ("origins = [\"https://app.example/\"]\n", "expected an origin"),
        ("origins = [\"https://app.example:443\"]\n", "expected an origin"),
        ("origins = [\"app.example\"]\n", "expected an origin"),
        (
            "origins = [\"*\"]\nheaders = [\"a b\"]\n",
            "`a b` is not the name of a header",
        ),
        ("origins = [\"*\"]\nmethods = [\"PUT\"]\n", "methods"),
    ] {
        let problems = load(text).expect_err(text).to_string();
        assert!(
            problems.contains(told) && problems.contains("cors"),
            "{text}: {problems}"
        );
    }
}
