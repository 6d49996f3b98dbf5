//! `special_golden.json`: distribution functions far into their tails.

use plumbline_drift::special::{
    chi2_critical, chi2_sf, kolmogorov_sf, ks_one_sample_sf, normal_critical, normal_sf,
};

use crate::{RELATIVE, golden, numbers};

type Function = fn(&[f64]) -> f64;

#[test]
fn distribution_functions_agree_into_their_tails() {
    let file = golden("special_golden.json");
    let tables: [(&str, usize, Function); 6] = [
        ("chi2_sf", 72, |a| chi2_sf(a[0], a[1])),
        ("chi2_ppf", 54, |a| chi2_critical(1.0 - a[0], a[1])),
        ("kolmogorov_sf", 20, |a| kolmogorov_sf(a[0])),
        ("kstwo_sf", 80, |a| ks_one_sample_sf(a[0], a[1] as u64)),
        ("norm_sf", 13, |a| normal_sf(a[0])),
        ("norm_ppf", 10, |a| -normal_critical(a[0])),
    ];
    let mut differences = Vec::new();
    for (name, size, ours) in tables {
        let rows = file[name].as_array().expect("a table");
        // kstwo leaves out the rows whose argument is not below 1.
        assert!(
            rows.len() == size || (name == "kstwo_sf" && rows.len() > size),
            "{name}: {} rows",
            rows.len()
        );
        for row in rows {
            let row = numbers(row);
            let (expected, arguments) = row.split_last().expect("a value");
            let value = ours(arguments);
            let agrees = if expected.abs() > 1e-300 {
                (value / expected - 1.0).abs() <= RELATIVE
            } else if name == "norm_ppf" {
                // The median of the normal law is 0, where only the absolute error means something.
                value.abs() < 1e-12
            } else {
                value.abs() < 1e-290
            };
            if !agrees {
                differences.push(format!("{name}{arguments:?}: {value}, expected {expected}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
