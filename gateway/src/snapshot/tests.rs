use plumbline_service::config::ParseSetting as _;
use plumbline_service::metrics::Metrics as Registry;
use plumbline_service::upstream::Target;

use super::*;
use crate::call::Family;
use crate::config::Reason;
use crate::endpoint::Endpoint;

fn spec(model: &str, urls: &[&str]) -> RouteSpec {
    let target = |url: &&str| Target::parse_setting(url).expect("an endpoint");
    RouteSpec::new(model, urls.iter().map(target).collect())
}

impl Routes {
    /// These routes, from a configuration without problems.
    pub(crate) fn configure_with(&self, specs: &[RouteSpec]) {
        self.configure(specs.iter().cloned().map(Arc::new).collect(), Vec::new());
    }
}

fn endpoints<'a>(snapshot: &'a Snapshot, model: &str) -> &'a [Arc<Endpoint>] {
    snapshot.route(model).expect("routed").revisions[0]
        .endpoints
        .of(Family::V2)
}

#[tokio::test]
async fn an_endpoint_keeps_its_state_when_routes_change() {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    assert!(routes.load().route("churn").is_none());
    routes.configure_with(&[
        spec("churn", &["http://127.0.0.1:1", "http://127.0.0.1:2"]),
        spec("iris", &["http://127.0.0.1:2"]),
    ]);
    let old = routes.load();
    let (churn, iris) = (endpoints(&old, "churn"), endpoints(&old, "iris"));
    assert!(Arc::ptr_eq(&churn[1], &iris[0]), "shared by routes");
    let pending = churn[1].begin(tokio::time::Instant::now());
    routes.configure_with(&[spec("churn", &["http://127.0.0.1:2", "http://127.0.0.1:3"])]);
    let new = routes.load();
    assert_eq!(endpoints(&new, "churn")[0].pending(), 1);
    assert!(new.route("iris").is_none());
    assert_eq!(
        old.sorted().len(),
        2,
        "a request that holds the old snapshot finishes with it"
    );
    drop(pending);
    assert_eq!(endpoints(&new, "churn")[0].pending(), 0);
}

#[tokio::test]
async fn a_route_that_is_replaced_remembers_its_budgets_and_its_revisions_limits() {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    let mut spec = spec("churn", &["http://127.0.0.1:1"]);
    spec.revisions.push(crate::config::RevisionSpec {
        name: "canary".to_owned(),
        ..crate::config::RevisionSpec::only(Vec::new())
    });
    let to = crate::config::MirrorTo::Revision("stable".to_owned());
    spec.mirror = Some(crate::config::MirrorSpec::new(to));
    routes.configure_with(std::slice::from_ref(&spec));
    let route = || Arc::clone(routes.load().route("churn").expect("routed"));
    let old = route();
    let mirror = |route: &Route| Arc::clone(&route.mirror.as_ref().expect("a mirror").state);
    // By the revision's name, whatever its place, its endpoints and who wants it.
    spec.revisions.reverse();
    spec.revisions[1].endpoints.clear();
    spec.timeout *= 2;
    let as_before = |new: &Arc<Route>| {
        assert!(!Arc::ptr_eq(&old, new));
        assert!(Arc::ptr_eq(&old.state, &new.state));
        assert!(Arc::ptr_eq(&mirror(&old), &mirror(new)));
        let [stable, canary] = [&old.revisions[0], &old.revisions[1]];
        assert!(Arc::ptr_eq(&stable.state, &new.revisions[1].state));
        assert!(Arc::ptr_eq(&canary.state, &new.revisions[0].state));
        assert!(!Arc::ptr_eq(&stable.state, &canary.state));
    };
    routes.configure_with(std::slice::from_ref(&spec));
    as_before(&route());
    spec.timeout *= 2;
    routes.discover(vec![Arc::new(spec)], Vec::new());
    routes.configure_with(&[]);
    as_before(&route());
}

fn rendered(registry: &Registry) -> String {
    String::from_utf8(registry.render()).expect("text")
}

#[tokio::test]
async fn the_first_route_keeps_a_host_and_hosts_are_compared_without_case_and_port() {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    let with_hosts = |model: &str, hosts: &[&str]| RouteSpec {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ..spec(model, &["http://127.0.0.1:1"])
    };
    routes.configure_with(&[
        with_hosts("churn", &["Churn.example.com", "bad:80"]),
        with_hosts("iris", &["churn.example.com.", "iris.example.com"]),
        spec("churn", &["http://127.0.0.1:2"]),
    ]);
    let snapshot = routes.load();
    let by_host = |host: &str| {
        let request = Request::get("/v2")
            .header("host", host)
            .body(())
            .expect("a request");
        snapshot.by_host(&request).map(|route| route.model.to_string())
    };
    assert_eq!(by_host("CHURN.example.COM:8080").as_deref(), Some("churn"));
    assert_eq!(by_host("iris.example.com").as_deref(), Some("iris"));
    assert_eq!((by_host("bad"), by_host("example.com")), (None, None));
    assert_eq!(
        endpoints(&snapshot, "churn")[0].target().to_string(),
        "http://127.0.0.1:1"
    );
    let told: Vec<String> = routes.conditions().iter().map(ToString::to_string).collect();
    for expected in [
        "model `churn` has host `bad:80`; expected",
        "model `iris` has host `churn.example.com`, which is taken already, by model `churn`",
        "model `churn` has more than one route",
    ] {
        assert!(told.iter().any(|text| text.contains(expected)), "{told:?}");
    }
}

#[tokio::test]
async fn a_route_that_is_as_it_was_stays_and_what_is_gone_is_freed() {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    let (churn, iris) = (
        spec("churn", &["http://127.0.0.1:1"]),
        spec("iris", &["http://127.0.0.1:2"]),
    );
    routes.configure_with(&[churn.clone(), iris.clone()]);
    let old = Arc::downgrade(&routes.load());
    let before = Arc::clone(routes.load().route("churn").expect("routed"));
    let gone = Arc::downgrade(&endpoints(&routes.load(), "iris")[0]);
    routes.configure_with(std::slice::from_ref(&churn));
    assert!(Arc::ptr_eq(
        &before,
        routes.load().route("churn").expect("routed")
    ));
    assert!(old.upgrade().is_none() && gone.upgrade().is_none());
    // Every part that may differ makes another route.
    let mut other = churn.clone();
    other.timeout *= 2;
    let mut hosted = churn.clone();
    hosted.hosts = vec!["a".to_owned()];
    let mut sticky = churn.clone();
    sticky.sticky = Some(crate::config::Sticky::Header("x".parse().expect("a name")));
    let mut moved = churn.clone();
    moved.revisions = iris.revisions;
    let mut protected = churn.clone();
    protected.protection.hold_max += 1;
    for changed in [other, hosted, sticky, moved, protected] {
        routes.configure_with(std::slice::from_ref(&churn));
        let before = Arc::clone(routes.load().route("churn").expect("routed"));
        routes.configure_with(std::slice::from_ref(&changed));
        assert!(
            !Arc::ptr_eq(&before, routes.load().route("churn").expect("routed")),
            "{changed:?}"
        );
    }
}

#[tokio::test]
async fn series_of_what_is_gone_are_removed() {
    let registry = Registry::default();
    let routes = Routes::new(Metrics::declare(&registry), Options::default());
    let specs = |swap: usize| {
        let mut spec = spec("churn", &[&format!("http://127.0.0.1:{}", swap + 1)]);
        spec.revisions[0].name = format!("churn-{swap:05}");
        let mut other = self::spec(&format!("model-{swap}"), &["http://127.0.0.1:9"]);
        let to = crate::config::MirrorTo::Endpoints(vec![
            Target::parse_setting(&format!("http://127.0.0.2:{}", swap + 1)).expect("an endpoint"),
        ]);
        other.mirror = Some(crate::config::MirrorSpec::new(to));
        other.fallback = Some("stable".to_owned());
        [spec, other]
    };
    let series = || rendered(&registry).lines().count();
    let took = std::time::Duration::from_millis(1);
    let ok = crate::metrics::Ending::Http(http::StatusCode::OK);
    routes.configure_with(&specs(0));
    let use_endpoints = || {
        let snapshot = routes.load();
        for route in snapshot.sorted() {
            for revision in &route.revisions {
                revision.state.requested();
            }
            route.state.extra().sent.inc();
            let mirrored = route.mirror.iter().flat_map(|mirror| mirror.endpoints.all());
            let own = route
                .revisions
                .iter()
                .flat_map(|revision| revision.endpoints.all());
            let now = tokio::time::Instant::now();
            own.chain(mirrored).for_each(|endpoint| drop(endpoint.begin(now)));
        }
    };
    use_endpoints();
    let first = series();
    for swap in 1..100 {
        // A request that is still on its way when its route goes.
        let late = Arc::clone(
            routes
                .load()
                .route(&format!("model-{}", swap - 1))
                .expect("routed"),
        );
        routes.configure_with(&specs(swap));
        use_endpoints();
        late.metrics.record(Family::V2, ok, took);
        drop(late);
    }
    assert_eq!(series(), first, "{}", rendered(&registry));
    let known = routes.writing.lock().expect("no panic").known.len();
    assert!(known <= 64, "{known} endpoints known, of which 3 are there");
    // Gone and back while a request still counts: what it counted stays.
    let late = Arc::clone(routes.load().route("model-99").expect("routed"));
    late.metrics.record(Family::V2, ok, took);
    routes.configure_with(&specs(1));
    routes.configure_with(&specs(99));
    drop(late);
    let back = r#"plumbline_gateway_requests_total{code="200",model="model-99",protocol="v2"} 1"#;
    assert!(rendered(&registry).contains(back));
}

#[tokio::test]
async fn the_configuration_and_discovery_do_not_overwrite_each_other_and_the_configuration_wins() {
    let registry = Registry::default();
    let routes = Routes::new(Metrics::declare(&registry), Options::default());
    let discovered = |model: &str, url: &str| {
        let object = Some(format!("models/{model}"));
        let hosts = vec![format!("{model}.example.com")];
        Arc::new(RouteSpec {
            object,
            hosts,
            ..spec(model, &[url])
        })
    };
    let url = |model: &str| endpoints(&routes.load(), model)[0].target().to_string();
    let reasons = || -> Vec<(Reason, Option<String>)> {
        let conditions = routes.conditions();
        let reason = |condition: &Condition| (condition.reason, condition.object.clone());
        conditions.iter().map(reason).collect()
    };
    let found = vec![
        discovered("churn", "http://127.0.0.1:2"),
        discovered("iris", "http://127.0.0.1:3"),
    ];
    routes.discover(found.clone(), Vec::new());
    assert_eq!(
        (url("churn"), reasons()),
        ("http://127.0.0.1:2".to_owned(), Vec::new())
    );
    let mut configured = spec("churn", &["http://127.0.0.1:1"]);
    configured.hosts = vec!["iris.example.com".to_owned()];
    routes.configure_with(std::slice::from_ref(&configured));
    assert_eq!(
        (&*url("churn"), &*url("iris")),
        ("http://127.0.0.1:1", "http://127.0.0.1:3")
    );
    let expected = vec![
        (Reason::ModelNameTaken, Some("models/churn".to_owned())),
        (Reason::HostTaken, Some("models/iris".to_owned())),
    ];
    assert_eq!(reasons(), expected);
    let iris = Arc::clone(routes.load().route("iris").expect("routed"));
    // Each writer again: what the other one wants stays.
    routes.discover(found.clone(), Vec::new());
    assert_eq!((&*url("churn"), reasons()), ("http://127.0.0.1:1", expected));
    let told = Condition::general(Reason::FileInvalid, "expected something else".to_owned());
    routes.keep_configured(vec![told]);
    assert_eq!(reasons()[0], (Reason::FileInvalid, None));
    let taken = r#"plumbline_gateway_route_conditions{reason="model_name_taken"}"#;
    assert!(rendered(&registry).contains(&format!("{taken} 1")));
    routes.configure_with(&[]);
    assert_eq!(
        (url("churn"), reasons()),
        ("http://127.0.0.1:2".to_owned(), Vec::new())
    );
    assert!(rendered(&registry).contains(&format!("{taken} 0")));
    assert!(
        Arc::ptr_eq(&iris, routes.load().route("iris").expect("routed")),
        "one that is as it was stays"
    );
    routes.discover(Vec::new(), Vec::new());
    assert!(routes.load().sorted().is_empty());
}

#[tokio::test]
async fn a_route_that_no_request_can_ask_for_is_left_out() {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    let url = ["http://127.0.0.1:1"];
    let found = ["unknown", "", "a\nb", "churn"].map(|model| Arc::new(spec(model, &url)));
    routes.discover(found.to_vec(), Vec::new());
    let snapshot = routes.load();
    let models: Vec<&str> = snapshot.sorted().iter().map(|route| &*route.model).collect();
    assert_eq!(models, ["churn"]);
    let conditions = routes.conditions();
    assert_eq!(conditions.len(), 3);
    assert!(
        conditions
            .iter()
            .all(|told| told.reason == Reason::ModelNameInvalid)
    );
}
