//! Everything that a profile must fulfil beyond its shape.

mod segments;

use std::collections::HashSet;

use super::{
    Calibration, Categorical, FORMAT, FORMAT_VERSION, Kind, MAX_CATEGORIES, MAX_LEVELS, Numeric, Problem,
    Profile, Role, Seasonality, Subject, Training,
};

/// Counts above this cannot be held by a JSON reader that has only doubles.
const MAX_COUNT: u64 = 1 << 53;

/// Collects problems with the path they are at.
struct Problems(Vec<Problem>);

impl Problems {
    fn expect(&mut self, holds: bool, path: &str, reason: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem {
                path: path.to_owned(),
                reason: reason(),
            });
        }
    }
}

pub(super) fn problems(profile: &Profile) -> Vec<Problem> {
    let mut p = Problems(Vec::new());
    p.expect(profile.format == FORMAT, "format", || {
        format!("expected \"{FORMAT}\", found \"{}\"", profile.format)
    });
    p.expect(profile.format_version == FORMAT_VERSION, "format_version", || {
        format!(
            "expected {FORMAT_VERSION}, found {}; this reader knows no other",
            profile.format_version
        )
    });
    p.expect(is_rfc3339_utc(&profile.created_at), "created_at", || {
        format!(
            "expected a time such as \"2026-01-31T12:00:00Z\", found \"{}\"",
            profile.created_at
        )
    });
    for (path, digest) in [
        ("model.digest", &profile.model.digest),
        ("data.digest", &profile.data.digest),
    ] {
        if let Some(digest) = digest {
            p.expect(is_digest(digest), path, || {
                format!("expected \"sha256:\" and 64 lower-case hex digits, found \"{digest}\"")
            });
        }
    }
    p.expect(!profile.model.name.is_empty(), "model.name", || {
        "expected a name, found an empty text".to_owned()
    });
    p.expect(profile.subjects().next().is_some(), "features", || {
        "expected at least one feature or output, found none".to_owned()
    });

    Content {
        rows: (profile.data.rows, "data.rows"),
        features: &profile.features,
        outputs: &profile.outputs,
        seasonality: profile.seasonality.as_ref(),
    }
    .check(&mut p, "");
    check_extras(&mut p, profile);
    if let Some(segmentation) = &profile.segments {
        segments::check(&mut p, segmentation, profile);
    }
    p.0
}

/// What the whole and each of its segments say of rows.
struct Content<'a> {
    /// With the name of the field that tells them.
    rows: (u64, &'static str),
    features: &'a [Subject],
    outputs: &'a [Subject],
    seasonality: Option<&'a Seasonality>,
}

impl Content<'_> {
    /// `prefix`: the path of what holds it, with a dot at its end.
    fn check(&self, p: &mut Problems, prefix: &str) {
        let mut names = HashSet::new();
        for (list, subjects) in [("features", self.features), ("outputs", self.outputs)] {
            for (i, subject) in subjects.iter().enumerate() {
                let path = format!("{prefix}{list}[{i}]");
                p.expect(
                    names.insert(subject.name.as_str()),
                    &format!("{path}.name"),
                    || format!("expected a name of its own, found \"{}\" again", subject.name),
                );
                check_subject(p, &path, subject, self.rows, list == "outputs");
            }
        }
        let seasons = self.seasonality.iter().flat_map(|s| &s.hour_of_week);
        for (i, season) in seasons.enumerate() {
            let path = format!("{prefix}seasonality.hour_of_week[{i}]");
            let mut subjects = self.features.iter().chain(self.outputs);
            let subject = subjects.find(|s| s.name == season.subject);
            p.expect(subject.is_some(), &format!("{path}.subject"), || {
                format!(
                    "expected the name of a feature or output, found \"{}\"",
                    season.subject
                )
            });
            let bins = subject.map(|s| s.reference_counts().len());
            let shape =
                season.counts.len() == 168 && season.counts.iter().all(|hour| Some(hour.len()) == bins);
            p.expect(shape, &format!("{path}.counts"), || {
                format!(
                    "expected 168 hours of {} bins, the one for missing included",
                    bins.unwrap_or(0)
                )
            });
        }
    }
}

fn check_subject(p: &mut Problems, path: &str, subject: &Subject, (rows, field): (u64, &str), output: bool) {
    p.expect(!subject.name.is_empty(), &format!("{path}.name"), || {
        "expected a name, found an empty text".to_owned()
    });
    p.expect(!subject.tensor.is_empty(), &format!("{path}.tensor"), || {
        "expected the name of a tensor, found an empty text".to_owned()
    });
    let total = subject.count.checked_add(subject.missing);
    p.expect(
        total == Some(rows) && rows <= MAX_COUNT,
        &format!("{path}.count"),
        || {
            format!(
                "expected count + missing to be {field} = {rows}, found {} + {}",
                subject.count, subject.missing
            )
        },
    );
    p.expect(output == subject.role.is_some(), &format!("{path}.role"), || {
        if output {
            "expected label, probability or value on an output, found none"
        } else {
            "expected none on a feature"
        }
        .to_owned()
    });
    p.expect(
        (subject.role == Some(Role::Probability)) || subject.class.is_none(),
        &format!("{path}.class"),
        || "expected only on an output with role probability".to_owned(),
    );

    let parts = [
        (
            "numeric",
            subject.numeric.is_some(),
            matches!(subject.kind, Kind::Numeric | Kind::TextLength),
        ),
        (
            "categorical",
            subject.categorical.is_some(),
            subject.kind == Kind::Categorical,
        ),
        (
            "boolean",
            subject.boolean.is_some(),
            subject.kind == Kind::Boolean,
        ),
    ];
    for (part, found, expected) in parts {
        p.expect(found == expected, &format!("{path}.{part}"), || {
            let kind = kind_name(subject.kind);
            if expected {
                format!("expected with kind {kind}, found none")
            } else {
                format!("not expected with kind {kind}")
            }
        });
    }
    match subject.role {
        Some(Role::Label) => p.expect(
            matches!(subject.kind, Kind::Categorical | Kind::Boolean),
            &format!("{path}.kind"),
            || "expected categorical or boolean for a label".to_owned(),
        ),
        Some(Role::Probability) => {
            p.expect(subject.kind == Kind::Numeric, &format!("{path}.kind"), || {
                "expected numeric for a probability".to_owned()
            });
            if let Some(Numeric {
                min: Some(min),
                max: Some(max),
                ..
            }) = &subject.numeric
            {
                p.expect(*min >= 0.0 && *max <= 1.0, &format!("{path}.numeric.min"), || {
                    format!("expected probabilities in [0, 1], found [{min}, {max}]")
                });
            }
        }
        Some(Role::Value) | None => {}
    }
    if let Some(numeric) = &subject.numeric {
        check_numeric(p, &format!("{path}.numeric"), numeric, subject.count);
    }
    if let Some(categorical) = &subject.categorical {
        check_categorical(p, &format!("{path}.categorical"), categorical, subject.count);
    }
    if let Some(boolean) = &subject.boolean {
        check_sum(
            p,
            &format!("{path}.boolean"),
            [boolean.no, boolean.yes].into_iter(),
            subject.count,
        );
    }
}

fn check_numeric(p: &mut Problems, path: &str, numeric: &Numeric, count: u64) {
    let bins = numeric.edges.len() + 1;
    let edges = format!("{path}.edges");
    p.expect(numeric.edges.iter().all(|e| e.is_finite()), &edges, || {
        "expected finite numbers".to_owned()
    });
    if let Some(i) = numeric
        .edges
        .windows(2)
        .position(|w| !matches!(w, [a, b] if a < b))
    {
        p.expect(false, &edges, || {
            format!(
                "expected strictly ascending edges, found a step back at index {}",
                i + 1
            )
        });
    }
    p.expect(numeric.edges.len() <= MAX_LEVELS + 1, &edges, || {
        format!(
            "expected at most {} edges, found {}",
            MAX_LEVELS + 1,
            numeric.edges.len()
        )
    });
    p.expect(
        numeric.edges.is_empty() == (count == 0) && numeric.edges.len() != 1,
        &edges,
        || {
            format!(
                "expected a guard below and above the range of {count} values, found {} edges",
                numeric.edges.len()
            )
        },
    );
    p.expect(numeric.counts.len() == bins, &format!("{path}.counts"), || {
        format!(
            "expected one count per bin, that is edges + 1 = {bins}, found {}",
            numeric.counts.len()
        )
    });
    p.expect(numeric.means.len() == bins, &format!("{path}.means"), || {
        format!(
            "expected one mean per bin, that is edges + 1 = {bins}, found {}",
            numeric.means.len()
        )
    });
    check_sum(
        p,
        &format!("{path}.counts"),
        numeric.counts.iter().copied(),
        count,
    );
    if let ([first, .., last], true) = (numeric.counts.as_slice(), bins > 2) {
        p.expect(*first == 0 && *last == 0, &format!("{path}.counts"), || {
            format!("expected 0 in the first and last bin, which guard the range, found {first} and {last}")
        });
    }
    if let Some(i) = numeric
        .counts
        .iter()
        .zip(&numeric.means)
        .position(|(n, mean)| (*n > 0) != mean.is_some())
    {
        p.expect(false, &format!("{path}.means[{i}]"), || {
            "expected null exactly where the bin is empty".to_owned()
        });
    }
    if let (Some(min), Some(max)) = (numeric.min, numeric.max) {
        p.expect(min <= max, &format!("{path}.min"), || {
            format!("expected at most max = {max}, found {min}")
        });
    }
    p.expect(
        numeric.min.is_some() == (count > 0) && numeric.max.is_some() == (count > 0),
        &format!("{path}.min"),
        || "expected min and max exactly when there are values".to_owned(),
    );
    p.expect(
        numeric.variance.is_none_or(|v| v >= 0.0),
        &format!("{path}.variance"),
        || "expected at least 0".to_owned(),
    );
    let ordered = numeric
        .quantiles
        .windows(2)
        .all(|w| matches!(w, [a, b] if a.level < b.level && a.value <= b.value));
    let in_range = numeric.quantiles.iter().all(|q| (0.0..=1.0).contains(&q.level));
    p.expect(ordered && in_range, &format!("{path}.quantiles"), || {
        "expected ascending levels in [0, 1] with ascending values".to_owned()
    });
}

fn check_categorical(p: &mut Problems, path: &str, categorical: &Categorical, count: u64) {
    let categories = &categorical.categories;
    p.expect(
        categories.len() <= MAX_CATEGORIES,
        &format!("{path}.categories"),
        || {
            format!(
                "expected at most {MAX_CATEGORIES}, found {}; the rest belongs in `other`",
                categories.len()
            )
        },
    );
    check_sum(
        p,
        path,
        categories.iter().map(|c| c.count).chain([categorical.other]),
        count,
    );
    for (i, category) in categories.iter().enumerate() {
        p.expect(
            category.count > 0,
            &format!("{path}.categories[{i}].count"),
            || "expected at least 1".to_owned(),
        );
        p.expect(
            !category.value.is_empty(),
            &format!("{path}.categories[{i}].value"),
            || "expected a text; the empty one counts as missing".to_owned(),
        );
    }
    let sorted = categories
        .windows(2)
        .position(|w| !matches!(w, [a, b] if a.count > b.count || (a.count == b.count && a.value < b.value)));
    if let Some(i) = sorted {
        p.expect(false, &format!("{path}.categories[{}]", i + 1), || {
            "expected by count descending, then by value ascending, no value twice".to_owned()
        });
    }
    let distinct: HashSet<&str> = categories.iter().map(|c| c.value.as_str()).collect();
    p.expect(
        distinct.len() == categories.len(),
        &format!("{path}.categories"),
        || "expected no value twice".to_owned(),
    );
    let listed = categories.len() as u64;
    let agrees = if categorical.other == 0 {
        categorical.distinct == listed
    } else {
        categorical.distinct > listed
    };
    p.expect(agrees, &format!("{path}.distinct"), || {
        format!(
            "expected {listed} listed values and those of `other` ({} rows), found {}",
            categorical.other, categorical.distinct
        )
    });
}

fn check_sum(p: &mut Problems, path: &str, counts: impl Iterator<Item = u64>, count: u64) {
    let sum = counts.fold(0_u64, u64::saturating_add);
    p.expect(sum == count, path, || {
        format!("expected counts that sum to count = {count}, found {sum}")
    });
}

fn check_extras(p: &mut Problems, profile: &Profile) {
    if let Some(target) = &profile.target
        && let Some(class) = &target.positive_class
    {
        p.expect(target.classes.contains(class), "target.positive_class", || {
            format!("expected one of target.classes, found \"{class}\"")
        });
    }
    if let Some(training) = &profile.training {
        check_training(p, training);
    }
    for (i, importance) in profile.importances.iter().flatten().enumerate() {
        p.expect(
            profile.features.iter().any(|f| f.name == importance.feature),
            &format!("importances[{i}].feature"),
            || format!("expected the name of a feature, found \"{}\"", importance.feature),
        );
        p.expect(
            importance.importance >= 0.0,
            &format!("importances[{i}].importance"),
            || format!("expected at least 0, found {}", importance.importance),
        );
    }
    for (i, calibration) in profile.calibration.iter().flatten().enumerate() {
        check_calibration(p, &format!("calibration[{i}]"), calibration, profile);
    }
}

fn check_training(p: &mut Problems, training: &Training) {
    let shares = [
        ("accuracy", training.accuracy),
        ("precision", training.precision),
        ("recall", training.recall),
        ("f1", training.f1),
        ("auc", training.auc),
    ];
    for (name, share) in shares {
        if let Some(share) = share {
            p.expect((0.0..=1.0).contains(&share), &format!("training.{name}"), || {
                format!("expected a share in [0, 1], found {share}")
            });
        }
    }
    p.expect(
        training.log_loss.is_none_or(|l| l >= 0.0),
        "training.log_loss",
        || "expected at least 0".to_owned(),
    );
}

fn check_calibration(p: &mut Problems, path: &str, calibration: &Calibration, profile: &Profile) {
    let known = profile
        .outputs
        .iter()
        .any(|o| o.name == calibration.output && o.role == Some(Role::Probability));
    p.expect(known, &format!("{path}.output"), || {
        format!(
            "expected the name of an output with role probability, found \"{}\"",
            calibration.output
        )
    });
    let shares = calibration.bins.iter().all(|b| {
        [b.lower, b.upper, b.predicted, b.observed]
            .iter()
            .all(|x| (0.0..=1.0).contains(x))
            && b.lower < b.upper
    });
    let ordered = calibration
        .bins
        .windows(2)
        .all(|w| matches!(w, [a, b] if a.upper <= b.lower));
    p.expect(shares && ordered, &format!("{path}.bins"), || {
        "expected ascending, separate bins with all values in [0, 1]".to_owned()
    });
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Numeric => "numeric",
        Kind::Categorical => "categorical",
        Kind::Boolean => "boolean",
        Kind::TextLength => "text_length",
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Shape only: `2026-01-31T12:00:00Z`, with an optional fraction of a second.
fn is_rfc3339_utc(text: &str) -> bool {
    let Some((time, fraction)) = text
        .strip_suffix('Z')
        .map(|t| t.split_once('.').unwrap_or((t, "0")))
    else {
        return false;
    };
    let template = b"0000-00-00T00:00:00";
    let shaped = time.len() == template.len()
        && time
            .bytes()
            .zip(template)
            .all(|(b, t)| if *t == b'0' { b.is_ascii_digit() } else { b == *t });
    shaped && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit())
}
