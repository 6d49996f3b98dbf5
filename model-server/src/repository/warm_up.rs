//! The first runs of a model, with zeros: what they cost, and the rank of outputs whose shape the file hides.

use std::time::{Duration, Instant};

use plumbline_inference_protocol::{Shape, StringData, Tensor, TensorData, TensorSpec};

use crate::scheduler::Cost;
use crate::session::{RunError, Session};

/// Rows of the larger run that shows what a further row costs.
const ROWS: i64 = 32;
/// A model whose run takes this long is measured once: its start should not wait for more.
const SLOW: Duration = Duration::from_millis(20);
/// Timed runs of a quick model.
const RUNS: usize = 5;

/// What the first runs show.
pub(super) struct WarmUp {
    pub(super) cost: Cost,
    /// Shapes of the outputs of a one-row run.
    pub(super) outputs: Vec<Shape>,
}

/// Runs `session` with zeros (empty strings), one row and, where every input has rows, 32 of them.
pub(super) fn warm_up(
    session: &mut Session,
    inputs: &[TensorSpec],
    outputs: usize,
) -> Result<WarmUp, RunError> {
    let outputs: Vec<usize> = (0..outputs).collect();
    let one = zeros(inputs, 1);
    let shapes = session
        .run(&one, &outputs)?
        .iter()
        .map(|tensor| tensor.shape().clone())
        .collect();
    let one_row = time(session, &one, &outputs)?;
    let has_rows = !inputs.is_empty() && inputs.iter().all(|input| input.shape.rows() == Some(-1));
    let larger = if has_rows && one_row < SLOW {
        // Some models take one row only, whatever their file says; then nothing is known about more.
        time(session, &zeros(inputs, ROWS), &outputs)
            .ok()
            .map(|time| (ROWS as usize, time))
    } else {
        None
    };
    Ok(WarmUp {
        cost: Cost::from_measurements(one_row, larger),
        outputs: shapes,
    })
}

/// The median of a few runs: the first pays for caches, and any may be preempted.
fn time(session: &mut Session, inputs: &[Tensor], outputs: &[usize]) -> Result<Duration, RunError> {
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
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
    let size = |(index, &dimension): (usize, &i64)| match dimension {
        -1 if index == 0 => rows,
        -1 => 1,
        fixed => fixed,
    };
    let shape: Shape = input.shape.dimensions().iter().enumerate().map(size).collect();
    let count = shape.element_count().ok()?;
    let data = match input.datatype.width() {
        Some(width) => {
            TensorData::from_le_bytes(input.datatype, vec![0_u8; count.checked_mul(width)?].into())?
        }
        None => TensorData::from_strings(std::iter::repeat_n("", count).collect::<StringData>()),
    };
    Tensor::new(input.name.as_str(), shape, data).ok()
}
