use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;

const SETTINGS: &[Setting] = &[
    Setting::new("listen", "ADDR", "Data port.").default("127.0.0.1:8080"),
    Setting::new("max_in_flight", "N", "Requests in flight.").default("64"),
    Setting::new("drain_timeout", "TIME", "Drain.").default("20s"),
    Setting::repeated("model", "PATH", "Models."),
    Setting::secret("api_key", "KEY", "Key.").shared_variable("CLOUD_API_KEY"),
    Setting::switch("verbose", "Says more."),
    Setting::table("route", "Routes."),
];

#[derive(Debug, PartialEq)]
struct Config {
    listen: SocketAddr,
    max_in_flight: NonZeroUsize,
    drain_timeout: Duration,
    models: Vec<String>,
    api_key: Option<String>,
    verbose: bool,
    routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    model: String,
    weight: u32,
}

fn read(reader: &mut Reader) -> Config {
    let config = Config {
        listen: reader.value("listen"),
        max_in_flight: reader.value("max_in_flight"),
        drain_timeout: reader.value("drain_timeout"),
        models: reader.list("model"),
        api_key: reader.optional("api_key"),
        verbose: reader.switch("verbose"),
        routes: reader.table("route"),
    };
    let fits = config.drain_timeout < Duration::from_secs(30);
    reader.check("drain_timeout", fits, "must be shorter than 30s");
    config
}

fn load_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Outcome<Config>, Problems> {
    let arguments = arguments.iter().map(ToString::to_string);
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    load("gateway", &[SETTINGS], arguments, environment, read)
}

fn started(outcome: Outcome<Config>) -> (Config, serde_json::Value) {
    match outcome {
        Outcome::Start { config, shown } => (config, shown),
        other => panic!("expected a configuration, got {other:?}"),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[test]
fn later_sources_win() {
    let file =
        file("max_in_flight = 1\ndrain_timeout = \"3s\"\nlisten = \"127.0.0.1:1\"\nmodel = [\"a\", \"b\"]\n");
    let path = file.path().to_str().expect("a text path");
    let environment = [
        ("PLUMBLINE_GATEWAY_MAX_IN_FLIGHT", "2"),
        ("PLUMBLINE_GATEWAY_DRAIN_TIMEOUT", "4s"),
    ];
    let outcome = load_with(
        &["--config", path, "--max-in-flight=3", "--verbose"],
        &environment,
    );
    let (config, _) = started(outcome.expect("valid"));
    assert_eq!(config.max_in_flight.get(), 3);
    assert_eq!(config.drain_timeout, Duration::from_secs(4));
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.models, ["a", "b"]);
    assert!(config.verbose);
}

#[test]
fn all_problems_are_told_at_once() {
    let file = file("max_in_flight = 0\n\n\ncolour = \"red\"\n[[route]]\nmodel = \"churn\"\nwieght = 3\n");
    let path = file.path().to_str().expect("a text path");
    let problems = load_with(
        &["--config", path, "--drain-timeout", "45s", "--nope", "--listen"],
        &[
            ("PLUMBLINE_GATEWAY_API_KEY", ""),
            ("PLUMBLINE_GATEWAY_TYPO", "1"),
            ("PLUMBLINE_SIDECAR_TYPO", "1"),
        ],
    )
    .expect_err("many problems");
    let text = problems.to_string();
    for expected in [
        "gateway: 8 problems in the configuration",
        &format!("max_in_flight = 0 ({path}:1): expected a whole number of at least 1"),
        &format!("colour ({path}:4): no such setting"),
        &format!("route ({path}:5): unknown field `wieght`"),
        "drain_timeout (--drain-timeout): must be shorter than 30s",
        "--nope: no such flag; --help lists them",
        "--listen: expected a value: --listen ADDR",
        "PLUMBLINE_GATEWAY_TYPO: no such setting",
        "api_key = *** (PLUMBLINE_GATEWAY_API_KEY): expected a value, got an empty one",
    ] {
        assert!(text.contains(expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let outcome = load_with(&[], &[("PLUMBLINE_GATEWAY_API_KEY", "hunter2")]).expect("valid");
    let (config, shown) = started(outcome);
    assert_eq!(config.api_key.as_deref(), Some("hunter2"));
    assert_eq!(shown["api_key"], "***");
    assert_eq!(shown["listen"], "127.0.0.1:8080");
    assert!(!shown.to_string().contains("hunter2"));
}

#[test]
fn a_shared_variable_gives_a_setting_unless_the_parts_own_does() {
    let key = |environment: &[(&str, &str)]| {
        let (config, shown) = started(load_with(&[], environment).expect("valid"));
        assert!(!shown.to_string().contains("wide"));
        config.api_key
    };
    assert_eq!(key(&[("CLOUD_API_KEY", "wide")]).as_deref(), Some("wide"));
    let both = [("CLOUD_API_KEY", "wide"), ("PLUMBLINE_GATEWAY_API_KEY", "own")];
    assert_eq!(key(&both).as_deref(), Some("own"));
    assert_eq!(key(&[("CLOUD_API_KEY", "")]), None);
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_are_not_settings() {
    let links = [
        ("PLUMBLINE_GATEWAY_SERVICE_HOST", "10.43.0.7"),
        ("PLUMBLINE_GATEWAY_SERVICE_PORT_HTTP", "8080"),
        ("PLUMBLINE_GATEWAY_PORT", "tcp://10.43.0.7:8080"),
        ("PLUMBLINE_GATEWAY_PORT_8080_TCP_ADDR", "10.43.0.7"),
    ];
    assert!(load_with(&[], &links).is_ok());
}

#[test]
fn a_missing_or_malformed_file_is_named() {
    let text = load_with(&["--config", "/nonexistent/gateway.toml"], &[])
        .expect_err("no file")
        .to_string();
    assert!(
        text.contains("config (/nonexistent/gateway.toml): cannot be read"),
        "{text}"
    );
    let file = file("listen = \"127.0.0.1:1\"\nmax_in_flight = = 2\n");
    let path = file.path().to_str().expect("a text path");
    let text = load_with(&["--config", path], &[])
        .expect_err("not TOML")
        .to_string();
    assert!(
        text.contains(&format!("config ({path}:2): not valid TOML")),
        "{text}"
    );
}

#[test]
fn help_and_check_config_do_not_start() {
    let Ok(Outcome::Help(text)) = load_with(&["--help"], &[]) else {
        panic!("expected help")
    };
    assert!(
        text.contains("--max-in-flight N\n      Requests in flight. [default: 64]"),
        "{text}"
    );
    assert!(matches!(load_with(&["--check-config"], &[]), Ok(Outcome::Valid)));
    assert!(load_with(&["--check-config", "--max-in-flight=0"], &[]).is_err());
}

#[test]
fn a_single_setting_given_twice_is_a_problem() {
    assert!(load_with(&["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"], &[]).is_err());
    let (config, _) = started(load_with(&["--model", "a", "--model", "b"], &[]).expect("valid"));
    assert_eq!(config.models, ["a", "b"]);
}

/// The routes of a file that holds very many, whose tables are read one by one; and how many had to be.
fn read_tables(text: &str, known: &mut Tables<Route>) -> (Result<Vec<Route>, String>, usize) {
    const MANY: &[Setting] = &[
        Setting::tables("route", "Routes."),
        Setting::table("access", "Access."),
        Setting::new("text", "TEXT", "A text."),
    ];
    let file = file(text);
    let arguments = ["--config", file.path().to_str().expect("a text path")].map(str::to_owned);
    let mut read = 0;
    let loaded = load("gateway", &[MANY], arguments, [], |reader| {
        let _text: Option<String> = reader.optional("text");
        let _access: toml::Table = reader.table("access");
        reader.tables("route", known, |index, table, problems| {
            read += 1;
            let route = table.clone().try_into();
            route.unwrap_or_else(|_| {
                problems.push(format!("route {}: expected a model and a weight", index + 1));
                Route {
                    model: String::new(),
                    weight: 0,
                }
            })
        })
    });
    let routes = match loaded {
        Ok(Outcome::Start { config, .. }) => Ok(config),
        Ok(other) => panic!("expected a start, found {other:?}"),
        Err(problems) => Err(problems
            .to_string()
            .replace(file.path().to_str().expect("a text path"), "FILE")),
    };
    (routes, read)
}

fn named(models: &[&str]) -> Vec<Route> {
    let route = |model: &&str| Route {
        model: (*model).to_owned(),
        weight: 1,
    };
    models.iter().map(route).collect()
}

#[test]
fn only_tables_that_have_changed_are_read_again() {
    let route = |model: &str| format!("[[route]] # of a team\nmodel = \"{model}\"\nweight = 1\n\n");
    let mut known = Tables::default();
    let mut expect = |text: String, models: &[&str], read: usize| {
        assert_eq!(
            read_tables(&text, &mut known),
            (Ok(named(models)), read),
            "{text}"
        );
    };
    let access = "[access]\nkeys = \"k\"\n[[access.allow]]\nverbs = []\n";
    expect(route("a") + &route("b"), &["a", "b"], 2);
    expect(route("a") + &route("b"), &["a", "b"], 0);
    expect(
        route("c") + &route("a") + access + &route("b"),
        &["c", "a", "b"],
        1,
    );
    expect(route("b") + &route("c"), &["b", "c"], 1);
    expect(
        format!("text = \"[[route]]\"\n{access}{}{}", route("b"), route("c")),
        &["b", "c"],
        0,
    );
    expect(route("a"), &["a"], 1);
    expect(String::new(), &[], 0);
}

#[test]
fn a_text_that_cannot_be_cut_at_its_lines_is_read_as_a_whole() {
    let a = "model = \"a\"\nweight = 1\n";
    let mut known = Tables::default();
    let mut expect = |text: String, models: &[&str]| {
        assert_eq!(read_tables(&text, &mut known).0, Ok(named(models)), "{text}");
    };
    let multi_line = |text: &str| format!("text = '''\n{text}'''\n");
    expect(multi_line("[[route]]\n") + "[[route]]\n" + a, &["a"]);
    expect(multi_line("[[route]]\nx\n[b]\n"), &[]);
    expect(format!("  [[route]]\n{a}"), &["a"]);
    expect(format!("[[route]]\n{a}  [[route]]\n{a}"), &["a", "a"]);
    expect(format!("[[route]]\n{a} [access]\nmodel = 1\n"), &["a"]);
    expect(
        "[[route]]\nweight = 1\nmodel = \"\"\"\n[[route]]\\\n\"\"\"\n".to_owned(),
        &["[[route]]"],
    );
    expect(
        format!("route = [{{ {} }}]\n", a.trim().replace('\n', ", ")),
        &["a"],
    );
}

#[test]
fn what_is_wrong_with_one_of_many_tables_has_its_place() {
    let a = "[[route]]\nmodel = \"a\"\nweight = 1\n";
    let mut known = Tables::default();
    let mut problem = |text: String, expected: &str| {
        let (routes, _) = read_tables(&text, &mut known);
        let problem = routes.expect_err(&text);
        assert!(problem.contains(expected), "{text}\n{problem}");
    };
    problem(
        format!("{a}{a}[[route]]\nmodel = = 1\n"),
        "config (FILE:8): not valid TOML",
    );
    problem(
        format!("{a}[[route]]\nmodel = \"b\"\n"),
        "route 2: expected a model",
    );
    // Told again, as it is still there.
    problem(
        format!("{a}[[route]]\nmodel = \"b\"\n"),
        "route 2: expected a model",
    );
    problem(format!("{a}[none]\n"), "none (FILE:4): no such setting");
    problem(format!("[route]\nx = 1\n{a}"), "not valid TOML");
    problem(format!("{a}[access]\n[route]\nx = 1\n"), "not valid TOML");
    problem(format!("text = [\n{a}]\n"), "not valid TOML");
    problem("[route]\nmodel = \"a\"\n".to_owned(), "route (FILE:1): ");
    problem(format!("{a}[access]\n[route.more]\n"), "route 1: expected");
}
