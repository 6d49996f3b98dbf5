//! The page for people: written here, without scripts, out of what `/routes` answers.

use std::fmt::Write as _;

use serde_json::Value;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:light-dark(#d8dbe0,#3a3f47);--quiet:light-dark(#5b6470,#9aa4b1);\
--bad:light-dark(#b3261e,#ff8a80);--good:light-dark(#1b6e3c,#7bd59b);--card:light-dark(#fff,#1d2025)}\
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;background:light-dark(#f5f6f8,#14161a)}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:0}\
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0;overflow-x:auto}\
p{margin:.25rem 0;color:var(--quiet)}code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%;margin-top:.75rem}th,td{text-align:left;padding:.3rem .6rem;border-top:1px solid var(--line)}\
td{white-space:pre-line}th{font-weight:600;border-top:0;color:var(--quiet)}.number{text-align:right;font-variant-numeric:tabular-nums}\
.bad{color:var(--bad)}.good{color:var(--good)}";

/// A whole document. Every text of `shown` is escaped.
pub(super) fn page(shown: &Value) -> String {
    let (routes, conditions) = (list(&shown["routes"]), list(&shown["conditions"]));
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Plumbline gateway</title><style>{STYLE}</style>\
         <h1>Plumbline gateway: {} routes</h1>\
         <p><a href=/routes>/routes</a> has the same as JSON, <a href=/metrics>/metrics</a> what has happened.</p>",
        routes.len()
    );
    if !conditions.is_empty() {
        page.push_str("<section><h2 class=bad>Not honoured</h2><table><tr><th>route<th>object<th>problem");
        for condition in conditions {
            row(
                &mut page,
                &[
                    text(&condition["route"]),
                    text(&condition["object"]),
                    text(&condition["problem"]),
                ],
            );
        }
        page.push_str("</table></section>");
    }
    for route in routes {
        write_route(&mut page, route);
    }
    page.push_str("</html>\n");
    page
}

fn write_route(page: &mut String, route: &Value) {
    write!(page, "<section><h2>{}</h2><p>", text(&route["model"])).expect(GROWS);
    let mut facts = Vec::new();
    for host in list(&route["hosts"]) {
        facts.push(format!("host <code>{}</code>", text(host)));
    }
    for matched in list(&route["matches"]) {
        let [header, value, revision] = ["header", "value", "revision"].map(|key| text(&matched[key]));
        facts.push(format!("<code>{header}: {value}</code> goes to {revision}"));
    }
    if !route["sticky"].is_null() {
        facts.push(format!("sticky by <code>{}</code>", text(&route["sticky"])));
    }
    if !route["fallback"].is_null() {
        facts.push(format!("falls back to {}", text(&route["fallback"])));
    }
    let mirror = &route["mirror"];
    if !mirror.is_null() {
        let percent = mirror["share"].as_f64().unwrap_or(0.0) * 100.0;
        let to = match &mirror["revision"] {
            Value::Null => "endpoints of its own".to_owned(),
            revision => text(revision),
        };
        facts.push(format!("{percent} % copied to {to}"));
    }
    if !route["guard"].is_null() {
        facts.push(format!(
            "canaries compared with {}",
            text(&route["guard"]["stable"])
        ));
    }
    facts.push(format!("timeout {} ms", number(&route["timeout_ms"], 0)));
    write!(page, "{}</p>", facts.join(" · ")).expect(GROWS);
    page.push_str(
        "<table><tr><th>revision<th class=number>weight<th>endpoint<th>health<th class=number>latency, ms\
         <th class=number>pending",
    );
    for revision in list(&route["revisions"]) {
        let weight = number(&revision["weight"], 0);
        let mut name = text(&revision["name"]);
        if !revision["stopped_at_unix_ms"].is_null() {
            name.push_str(" <span class=bad>stopped</span>");
        }
        write_endpoints(page, &name, &weight, &revision["endpoints"]);
    }
    write_endpoints(page, "mirror", "", &mirror["endpoints"]);
    page.push_str("</table></section>");
}

fn write_endpoints(page: &mut String, revision: &str, weight: &str, endpoints: &Value) {
    if endpoints.as_array().is_some_and(Vec::is_empty) && !weight.is_empty() {
        write!(
            page,
            "<tr><td>{revision}<td class=number>{weight}<td class=bad colspan=4>no endpoint"
        )
        .expect(GROWS);
    }
    for endpoint in list(endpoints) {
        let state = &endpoint["state"];
        let health = text(&state["health"]).replace('_', " ");
        let class = if state["ejected"].is_null() { "good" } else { "bad" };
        let cause = match &state["ejected"]["cause"] {
            Value::Null => String::new(),
            cause => format!(": {}", text(cause)),
        };
        write!(
            page,
            "<tr><td>{revision}<td class=number>{weight}<td><code>{}</code><td class={class}>{health}{cause}\
             <td class=number>{}<td class=number>{}",
            text(&endpoint["endpoint"]),
            number(&endpoint["latency_ms"], 2),
            number(&endpoint["pending"], 0),
        )
        .expect(GROWS);
    }
}

const GROWS: &str = "a text grows";

fn row(page: &mut String, cells: &[String]) {
    page.push_str("<tr>");
    for cell in cells {
        write!(page, "<td>{cell}").expect(GROWS);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value, digits: usize) -> String {
    value
        .as_f64()
        .map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}

fn text(value: &Value) -> String {
    let mut escaped = String::new();
    for character in value.as_str().unwrap_or_default().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_from_outside_are_text() {
        let evil = "<script>alert(1)</script>\"'&";
        let route = json!({
            "model": evil,
            "hosts": [evil],
            "matches": [{"header": evil, "value": evil, "revision": evil}],
            "sticky": evil,
            "fallback": evil,
            "mirror": {"revision": evil, "endpoints": [{"endpoint": evil, "state": {"health": evil}}], "share": 0.1},
            "revisions": [{"name": evil, "weight": 1, "endpoints": [{"endpoint": evil, "state": {"health": evil, "ejected": {"cause": evil}}}]}],
        });
        let page = page(
            &json!({"routes": [route], "conditions": [{"route": evil, "object": evil, "problem": evil}]}),
        );
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(
            page.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;")
                .count(),
            17
        );
    }
}
