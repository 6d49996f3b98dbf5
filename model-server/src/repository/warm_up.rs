//! The first runs of a model: what they cost by rows, whether rows depend on each other, and the rank of outputs whose
//! shape the file hides.

use std::time::{Duration, Instant};

use plumbline_inference_protocol::{Shape, StringData, Tensor, TensorData, TensorSpec};

use super::rows::{are_independent, have_rows};
use super::signature::Specs;
use crate::scheduler::{Costs, Curve};
use crate::session::{RunError, Session};

/// The most rows that are tried.
const MOST_ROWS: usize = 128;
/// Time for all sizes together: a start should not wait for more.
const BUDGET: Duration = Duration::from_millis(40);
/// Timed runs of a quick model, and of a large size.
const RUNS: usize = 7;
const FEW_RUNS: usize = 3;
/// A run that takes this long is measured once.
const SLOW: Duration = Duration::from_millis(5);

/// What the first runs show.
pub(super) struct WarmUp {
    pub(super) costs: Costs,
    /// Whether requests may be run together: rows were seen not to depend on each other.
    pub(super) rows_are_independent: bool,
    /// Names and shapes of the outputs of runs of one row and of two.
    pub(super) outputs: Vec<(String, Shape)>,
}

/// Runs `session` with zeros (empty strings), one row and, where every input has rows, more of them; then with two
/// rows of other values, alone and together.
pub(super) fn warm_up(session: &mut Session, specs: &Specs) -> Result<WarmUp, RunError> {
    let (inputs, outputs) = (&specs.inputs[..], &specs.outputs[..]);
    let began = Instant::now();
    let wanted: Vec<usize> = (0..outputs.len()).collect();
    let one = zeros(inputs, 1);
    let mut shapes = shapes(&session.run(&one, &wanted)?);
    let has_rows = specs.are_plain() && have_rows(inputs, outputs, &shapes);
    if has_rows && let Ok(tensors) = session.run(&zeros(inputs, 2), &wanted) {
        shapes.extend(self::shapes(&tensors));
    }
    let mut measured = vec![(1, time(session, &one, &wanted, RUNS)?)];
    let mut rows = 2;
    while has_rows
        && rows <= MOST_ROWS
        && began.elapsed() < BUDGET
        && measured.last().is_some_and(|m| m.1 < SLOW)
    {
        let runs = if rows <= 16 { RUNS } else { FEW_RUNS };
        // Some models take one row only, whatever their file says; then nothing is known about more.
        let Ok(time) = time(session, &zeros(inputs, rows as i64), &wanted, runs) else {
            break;
        };
        measured.push((rows, time));
        rows *= 2;
    }
    let costs = Costs::new(Curve::from_measurements(&measured));
    let varies = inputs.iter().any(|input| {
        input
            .shape
            .dimensions()
            .iter()
            .skip(1)
            .any(|&dimension| dimension < 0)
    });
    Ok(WarmUp {
        costs: if varies { costs.varying(&one, 1) } else { costs },
        rows_are_independent: has_rows && measured.len() > 1 && are_independent(session, inputs, &wanted),
        outputs: shapes,
    })
}

/// The first run of a further session, which pays for what later ones find ready.
pub(super) fn run_once(session: &mut Session, inputs: &[TensorSpec], outputs: usize) {
    let outputs: Vec<usize> = (0..outputs).collect();
    // Another session of the model has run with the same.
    let _same_as_the_first = session.run(&zeros(inputs, 1), &outputs);
}

fn shapes(tensors: &[Tensor]) -> Vec<(String, Shape)> {
    let shape = |tensor: &Tensor| (tensor.name().to_owned(), tensor.shape().clone());
    tensors.iter().map(shape).collect()
}

/// The median of a few runs: the first pays for caches, and any may be preempted.
fn time(
    session: &mut Session,
    inputs: &[Tensor],
    outputs: &[usize],
    runs: usize,
) -> Result<Duration, RunError> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        session.run(inputs, outputs)?;
        times.push(started.elapsed());
        if times[0] >= SLOW {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Inputs of zeros: `rows` in a variable first dimension, 1 in any other variable one.
pub(super) fn zeros(inputs: &[TensorSpec], rows: i64) -> Vec<Tensor> {
    inputs.iter().filter_map(|input| zero(input, rows)).collect()
}

fn zero(input: &TensorSpec, rows: i64) -> Option<Tensor> {
    let shape = shape_of(input, rows);
    let count = shape.element_count().ok()?;
    let data = match input.datatype.width() {
        Some(width) => {
            TensorData::from_le_bytes(input.datatype, vec![0_u8; count.checked_mul(width)?].into())?
        }
        None => TensorData::from_strings(std::iter::repeat_n("", count).collect::<StringData>()),
    };
    Tensor::new(input.name.as_str(), shape, data).ok()
}

/// `rows` in a variable first dimension, 1 in any other variable one.
pub(super) fn shape_of(input: &TensorSpec, rows: i64) -> Shape {
    let size = |(index, &dimension): (usize, &i64)| match dimension {
        -1 if index == 0 => rows,
        -1 => 1,
        fixed => fixed,
    };
    input.shape.dimensions().iter().enumerate().map(size).collect()
}
