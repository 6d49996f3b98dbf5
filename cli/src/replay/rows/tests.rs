use plumbline_inference_protocol::Datatype;

use super::*;
use crate::table::tests::table;

pub(crate) fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, datatype, shape)
}

fn churn() -> Vec<TensorSpec> {
    vec![
        spec("tenure", Datatype::Int64, &[-1, 1]),
        spec("MonthlyCharges", Datatype::Fp32, &[-1, 1]),
        spec("Contract", Datatype::Bytes, &[-1]),
    ]
}

const CSV: &str = "Contract,tenure,MonthlyCharges\nOne year,1,20.5\n,3.0,\n";

fn fit(csv: &str, specs: &[TensorSpec], shifts: &[&str], ignore_extra: bool) -> Result<Rows, RowsError> {
    let shifts = shifts
        .iter()
        .map(|shift| shift.parse().expect("a shift"))
        .collect();
    Rows::fit(table(csv), "churn", specs, shifts, ignore_extra)
}

fn problem(csv: &str, specs: &[TensorSpec], shifts: &[&str]) -> String {
    fit(csv, specs, shifts, false)
        .expect_err("does not fit")
        .to_string()
}

#[test]
fn columns_go_to_the_inputs_of_their_names() {
    let rows = fit(CSV, &churn(), &[], false).expect("fits");
    let tensors = rows
        .tensors(&[1, 0], &mut fastrand::Rng::with_seed(1))
        .expect("tensors");
    assert_eq!(tensors[0].data().as_slice::<i64>(), Some(&[3, 1][..]));
    let charges = tensors[1].data().as_slice::<f32>().expect("FP32");
    assert!(charges[0].is_nan() && charges[1] == 20.5);
    assert_eq!(tensors[1].shape().dimensions(), [2, 1]);
    let contracts = tensors[2].data().as_strings().expect("BYTES");
    assert_eq!(
        (contracts.str_at(0), contracts.str_at(1)),
        (Some(""), Some("One year"))
    );
    assert_eq!(tensors[2].shape().dimensions(), [2]);
}

#[test]
fn the_only_input_takes_all_columns_in_order() {
    for shape in [[-1, 3], [-1, -1]] {
        let rows = fit(
            "a,b,c\n1,2,3\n4,5,6\n",
            &[spec("x", Datatype::Fp64, &shape)],
            &[],
            false,
        )
        .expect("fits");
        let tensors = rows
            .tensors(&[0, 1], &mut fastrand::Rng::with_seed(1))
            .expect("tensors");
        assert_eq!(
            tensors[0].data().as_slice::<f64>(),
            Some(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..])
        );
        assert_eq!(tensors[0].shape().dimensions(), [2, 3]);
    }
    let error = problem("a,b\n1,2\n", &[spec("x", Datatype::Fp64, &[-1, 3])], &[]);
    assert_eq!(
        error,
        "input `x` of model `churn` takes 3 columns, rows.csv has 2"
    );
}

#[test]
fn shifts_change_their_share_of_the_rows_and_nothing_else() {
    let rows = fit(CSV, &churn(), &["tenure*=1.5", "Contract=Two year@0.5"], false).expect("fits");
    let mut random = fastrand::Rng::with_seed(7);
    let tensors = rows.tensors(&[0; 1_000], &mut random).expect("tensors");
    // 1 · 1.5, to the nearest whole number.
    assert!(
        tensors[0]
            .data()
            .as_slice::<i64>()
            .expect("INT64")
            .iter()
            .all(|x| *x == 2)
    );
    let contracts = tensors[2].data().as_strings().expect("BYTES");
    let changed = contracts
        .iter()
        .filter(|contract| *contract == b"Two year")
        .count();
    // 500 ± 4.4 standard deviations.
    assert!((430..=570).contains(&changed), "{changed}");
    assert_eq!(tensors[1].data().as_slice::<f32>(), Some(&[20.5; 1_000][..]));
}

#[test]
fn a_missing_number_has_no_form_in_json() {
    let missing = fit(CSV, &churn(), &[], false)
        .expect("fits")
        .check_json()
        .expect_err("a missing number");
    let text = missing.to_string();
    assert!(
        text.starts_with("rows.csv:3: column `MonthlyCharges`: JSON has no form"),
        "{text}"
    );
    assert!(
        fit(CSV, &churn(), &["MonthlyCharges~=->0"], false)
            .expect("fits")
            .check_json()
            .is_ok()
    );
    // Filled in half of the rows only.
    assert!(
        fit(CSV, &churn(), &["MonthlyCharges~=->0@0.5"], false)
            .expect("fits")
            .check_json()
            .is_err()
    );
    let whole = "Contract,tenure,MonthlyCharges\n,1,2\n";
    assert!(
        fit(whole, &churn(), &[], false)
            .expect("fits")
            .check_json()
            .is_ok()
    );
    assert!(
        fit(whole, &churn(), &["MonthlyCharges=null@0.1"], false)
            .expect("fits")
            .check_json()
            .is_err()
    );
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    assert_eq!(
        problem("tenure,Churn\n1,Yes\n", &churn(), &[]),
        "rows.csv: no column for inputs `MonthlyCharges`, `Contract` of model `churn`; the file has `tenure`, `Churn`"
    );
    let extra = "Contract,tenure,MonthlyCharges,Churn\nx,1,2,No\n";
    assert_eq!(
        problem(extra, &churn(), &[]),
        "rows.csv: column `Churn` not of model `churn`; --ignore-extra leaves them out"
    );
    assert!(fit(extra, &churn(), &[], true).is_ok());
    assert_eq!(
        problem(
            "Contract,tenure,MonthlyCharges\nx,1,2\nx,1,cheap\n",
            &churn(),
            &[]
        ),
        "rows.csv:3: column `MonthlyCharges`: `cheap` is not a number (FP32)"
    );
    assert_eq!(
        problem("Contract,tenure,MonthlyCharges\nx,1.5,2\n", &churn(), &[]),
        "rows.csv:2: column `tenure`: `1.5` is not a whole number that fits INT64"
    );
    assert_eq!(
        problem(CSV, &churn(), &["tenure=null"]),
        "rows.csv:2: column `tenure`: an empty cell, and INT64 has no missing values"
    );
    assert_eq!(
        problem(CSV, &churn(), &["Contract*=2"]),
        "rows.csv:2: column `Contract`: shift `Contract*=2` needs a number, got `One year`"
    );
    assert_eq!(
        problem(CSV, &churn(), &["contract=x"]),
        "--shift contract=x: rows.csv has no such column; it has `Contract`, `tenure`, `MonthlyCharges`"
    );
    let fixed = fit("a\n1\n", &[spec("a", Datatype::Fp32, &[1, 1])], &[], false).expect("fits");
    let error = fixed.check_batch("churn", 4).expect_err("one row a request");
    assert_eq!(
        error.to_string(),
        "model `churn` takes 1 rows a request, not 4: --batch 1"
    );
}
