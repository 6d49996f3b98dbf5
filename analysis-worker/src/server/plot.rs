//! Reference against now, as inline SVG: two bars a bin, readable without colour and without sight.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use maud::{Markup, html};

use super::api::with_type;
use super::{Shared, pages};
use crate::drift::{Bin, DriftSubject, percent};
use crate::report::Report;
use crate::text::one_line;

/// Bins drawn; the rest of a long list shares one last pair of bars.
const MAX_BINS: usize = 18;
/// Bins that still get a label each.
const LABELLED: usize = 7;
/// Drawing area in SVG units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 38.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 8.0;

/// The plot of one subject with the same figures as a table behind it.
pub(super) fn subject(subject: &DriftSubject) -> Markup {
    let bins = drawn(&subject.bins);
    if bins.is_empty() {
        return html! { p.quiet { "No histogram." } };
    }
    let most = highest(&bins);
    let id = format!("plot-{}", &crate::signal::digest(&[&subject.name])[..8]);
    html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(id) {
            title id=(id) { (alternative(subject)) }
            (axis(most))
            (bars(&bins, most))
            (labels(&bins))
        }
        details {
            summary { "Figures of " (subject.name) }
            div.scroll {
                table {
                    thead { tr { th scope="col" { "bin" } th.number scope="col" { "reference" } th.number scope="col" { "now" } } }
                    tbody {
                        @for bin in &bins {
                            tr {
                                td { (bin.label) }
                                td.number { (percent(bin.reference)) }
                                td.number { (percent(bin.now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `GET /incidents/{id}/plots/{revision}/{plot}.svg`: the plot of an affected subject by its place, as a file of its own.
pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    Path((id, revision, plot)): Path<(String, u32, String)>,
) -> Response {
    let index: Option<usize> = plot.strip_suffix(".svg").and_then(|index| index.parse().ok());
    let read = shared.store.revision(&id, revision).await;
    let report: Option<Report> = match read {
        Ok(json) => json.and_then(|json| serde_json::from_str(&json).ok()),
        Err(error) => return pages::broken(&shared, &error),
    };
    let svg = report.zip(index).and_then(|(report, index)| {
        let drift = report.drift?;
        let mut affected = drift.affected().filter(|subject| !subject.bins.is_empty());
        affected.nth(index).map(standalone)
    });
    let Some(svg) = svg else {
        return pages::not_found(State(shared)).await;
    };
    let mut response = with_type(svg, "image/svg+xml");
    let headers = response.headers_mut();
    // The style is in the file; it loads and runs nothing else.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    // What a revision shows does not change.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400"));
    response
}

/// The plot with its colours, light ground, and the subject's name.
fn standalone(subject: &DriftSubject) -> String {
    let bins = drawn(&subject.bins);
    let most = highest(&bins);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 -26 {WIDTH} {}", HEIGHT + 26.0)) width="720" role="img" aria-label=(alternative(subject)) {
            style { (FILE_STYLE) }
            rect.ground x="0" y="-26" width=(WIDTH) height=(HEIGHT + 26.0) {}
            text.name x=(LEFT) y="-9" { (one_line(&subject.name, 60)) ": reference (grey) and now" }
            (axis(most))
            (bars(&bins, most))
            (labels(&bins))
        }
    }
    .into_string()
}

/// As `style.css` has it, for a file that nothing else is loaded with.
const FILE_STYLE: &str = "text{font:11px sans-serif;fill:#526071}.name{font-size:13px;fill:#16202c}.ground{fill:#fff}\
    .axis{stroke:#d9dfe7}.bar-reference{fill:#8a97a8;fill-opacity:.35;stroke:#8a97a8}.bar-now{fill:#c2410c}";

fn highest(bins: &[Bin]) -> f64 {
    bins.iter()
        .map(|bin| bin.reference.max(bin.now))
        .fold(0.01, f64::max)
}

/// What the plot shows, in words.
fn alternative(subject: &DriftSubject) -> String {
    let moved: Vec<String> = subject
        .moved(3)
        .iter()
        .map(|bin| {
            format!(
                "{} from {} to {}",
                one_line(&bin.label, 40),
                percent(bin.reference),
                percent(bin.now)
            )
        })
        .collect();
    if moved.is_empty() {
        format!(
            "Shares per bin of {}, reference and now: nearly equal",
            subject.name
        )
    } else {
        format!(
            "Shares per bin of {}, reference and now; largest changes: {}",
            subject.name,
            moved.join(", ")
        )
    }
}

/// Numeric bins keep their order; of many categories those that moved or matter most are drawn.
fn drawn(bins: &[Bin]) -> Vec<Bin> {
    if bins.len() <= MAX_BINS {
        return bins.to_vec();
    }
    let mut order: Vec<usize> = (0..bins.len()).collect();
    let size = |index: &usize| bins[*index].reference.max(bins[*index].now);
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let mut kept: Vec<usize> = order[..MAX_BINS - 1].to_vec();
    kept.sort_unstable();
    let rest = &order[MAX_BINS - 1..];
    let mut drawn: Vec<Bin> = kept.into_iter().map(|index| bins[index].clone()).collect();
    drawn.push(Bin {
        label: format!("{} more", rest.len()),
        reference: rest.iter().map(|index| bins[*index].reference).sum(),
        now: rest.iter().map(|index| bins[*index].now).sum(),
    });
    drawn
}

fn axis(most: f64) -> Markup {
    let base = HEIGHT - BOTTOM;
    html! {
        line.axis x1=(LEFT) y1=(base) x2=(WIDTH) y2=(base) {}
        line.axis x1=(LEFT) y1=(TOP) x2=(WIDTH) y2=(TOP) stroke-dasharray="2 4" {}
        text.tick x=(LEFT - 5.0) y=(TOP + 4.0) text-anchor="end" { (format!("{:.0} %", most * 100.0)) }
        text.tick x=(LEFT - 5.0) y=(base + 3.0) text-anchor="end" { "0" }
    }
}

fn bars(bins: &[Bin], most: f64) -> Markup {
    let step = (WIDTH - LEFT) / bins.len() as f64;
    let width = (step * 0.36).min(28.0);
    let full = HEIGHT - BOTTOM - TOP;
    html! {
        @for (index, bin) in bins.iter().enumerate() {
            @let middle = LEFT + step * (index as f64 + 0.5);
            @for (class, share, x) in [("bar-reference", bin.reference, middle - width - 0.75), ("bar-now", bin.now, middle + 0.75)] {
                @let height = (share / most * full).max(if share > 0.0 { 1.0 } else { 0.0 });
                rect class=(class) x=(short(x)) y=(short(HEIGHT - BOTTOM - height)) width=(short(width)) height=(short(height)) {
                    title { (bin.label) ": " (percent(share)) (if class == "bar-now" { " now" } else { " in the reference" }) }
                }
            }
        }
    }
}

fn labels(bins: &[Bin]) -> Markup {
    let step = (WIDTH - LEFT) / bins.len() as f64;
    let every = bins.len().div_ceil(LABELLED);
    // Six units a letter, and the room of the bins up to the next label.
    let letters = ((step * every as f64 / 6.2) as usize).max(3);
    html! {
        @for (index, bin) in bins.iter().enumerate().filter(|(index, _)| index % every == 0) {
            text.tick x=(short(LEFT + step * (index as f64 + 0.5))) y=(HEIGHT - 8.0) text-anchor="middle" {
                (one_line(&bin.label, letters))
            }
        }
    }
}

fn short(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::contract_shift;

    #[test]
    fn a_plot_can_be_read_without_seeing_it_and_escapes_names() {
        let mut contract = contract_shift().subjects.remove(3);
        contract.bins[0].label = "<script>alert(1)</script>".to_owned();
        let svg = subject(&contract).into_string();
        assert!(
            svg.contains("role=\"img\"") && svg.contains("from 55.0 % to 91.0 %"),
            "{svg}"
        );
        assert!(!svg.contains("<script>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 6);
    }

    #[test]
    fn a_plot_is_a_file_of_its_own_too() {
        let mut contract = contract_shift().subjects.remove(3);
        contract.name = "</text><script>".to_owned();
        let svg = standalone(&contract);
        assert!(
            svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""),
            "{svg}"
        );
        assert!(
            svg.contains("from 55.0 % to 91.0 %") && !svg.contains("<script>"),
            "{svg}"
        );
        assert_eq!(svg.matches("class=\"bar-now\"").count(), 3, "{svg}");
    }

    #[test]
    fn many_categories_share_a_last_bin_and_lose_no_share() {
        let bins: Vec<Bin> = (0..100)
            .map(|i| Bin {
                label: i.to_string(),
                reference: 0.01,
                now: 0.01,
            })
            .collect();
        let drawn = drawn(&bins);
        assert_eq!(drawn.len(), MAX_BINS);
        assert_eq!(drawn.last().map(|bin| bin.label.as_str()), Some("83 more"));
        let all: f64 = drawn.iter().map(|bin| bin.now).sum();
        assert!((all - 1.0).abs() < 1e-9);
    }
}
