//! Executions: one request, or the rows of several, on a session; and what is answered when that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plumbline_inference_protocol::Tensor;
use smallvec::{SmallVec, smallvec};

use super::job::{Answer, Entry, Execution};
use super::{Done, Refusal, Runner, Shared};
use crate::session::RunError;

/// Executions without batches after one that failed: whoever sends what cannot run may send more of it, and each such
/// batch runs twice.
const PAUSE: u32 = 64;

pub(super) type Answers = SmallVec<[Answer; 1]>;

impl<S: Runner> Shared<S> {
    /// Runs `batch` as one execution; if that fails, each of it alone, so that nobody fails for another's values. The
    /// answers are in the order of the batch. A session that is lost is `None` afterwards.
    pub(super) fn execute(&self, session: &mut Option<S>, batch: &[Entry], execution: &Execution) -> Answers {
        if let [entry] = batch {
            return smallvec![self.alone(session, entry, execution)];
        }
        if let Some(answers) = self.together(session, batch, execution) {
            return answers;
        }
        if !execution.is_ended() {
            self.pause.store(PAUSE, Ordering::Relaxed);
        }
        let alone = |entry: &Entry| {
            if entry.is_wanted() {
                self.alone(session, entry, execution)
            } else {
                Err(Refusal::Failed) // to nobody
            }
        };
        batch.iter().map(alone).collect()
    }

    fn alone(&self, session: &mut Option<S>, entry: &Entry, execution: &Execution) -> Answer {
        let job = &entry.job;
        let started = Instant::now();
        let (value, computed) = self.attempt(session, &job.inputs, &job.outputs, execution)?;
        if value.is_ok() {
            self.costs.curve(job.class).observe(job.rows, computed);
        }
        Ok(Done {
            value,
            queued: started.duration_since(job.arrived),
            computed,
            batch_rows: job.rows,
            leads: true,
        })
    }

    /// `None` if the execution fails, or its outputs have other rows than its inputs.
    fn together(&self, session: &mut Option<S>, batch: &[Entry], execution: &Execution) -> Option<Answers> {
        let first = &batch.first()?.job;
        let started = Instant::now();
        let inputs = join(&batch.iter().map(|entry| &entry.job.inputs[..]))?;
        let rows = batch.iter().map(|entry| entry.job.rows).sum();
        let (value, computed) = self.attempt(session, &inputs, &first.outputs, execution).ok()?;
        let outputs = value.ok()?;
        if outputs
            .iter()
            .any(|output| output.shape().rows() != Some(rows as i64))
        {
            tracing::warn!(
                rows,
                "outputs of a batch do not have its rows; requests are not batched any more"
            );
            self.joins.store(false, Ordering::Relaxed);
            return None;
        }
        self.costs.curve(first.class).observe(rows, computed);
        let mut from = 0;
        let answer = |(index, entry): (usize, &Entry)| {
            let range = from..from + entry.job.rows;
            from = range.end;
            let own = |output: &Tensor| output.row_range(range.clone());
            Some(Ok(Done {
                value: Ok(outputs.iter().map(own).collect::<Option<_>>()?),
                queued: started.saturating_duration_since(entry.job.arrived),
                computed,
                batch_rows: rows,
                leads: index == 0,
            }))
        };
        batch.iter().enumerate().map(answer).collect()
    }

    /// One call of the session, made again first if it was lost.
    fn attempt(
        &self,
        session: &mut Option<S>,
        inputs: &[Tensor],
        outputs: &[usize],
        execution: &Execution,
    ) -> Result<(Result<Vec<Tensor>, RunError>, Duration), Refusal> {
        let mut runner = match session.take() {
            Some(runner) => runner,
            None => (self.rebuild)().map_err(|error| {
                tracing::error!(%error, "a session cannot be made again");
                Refusal::Failed
            })?,
        };
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            execution.run(runner.stop(), || runner.run(inputs, outputs))
        }));
        let computed = started.elapsed();
        let Ok(value) = outcome else {
            // The session may be half way through anything: it is dropped, and the next request makes a new one.
            tracing::error!("a run panicked; its session is replaced");
            return Err(Refusal::Failed);
        };
        *session = Some(runner);
        // Without a value nobody waited any more.
        value.map(|value| (value, computed)).ok_or(Refusal::Failed)
    }
}

/// The rows of many lists of tensors, one list after the other.
pub(super) fn join<'a>(lists: &(impl Iterator<Item = &'a [Tensor]> + Clone)) -> Option<Vec<Tensor>> {
    let count = lists.clone().next()?.len();
    let joined = |index: usize| {
        let parts: Option<SmallVec<[&Tensor; 32]>> = lists.clone().map(|list| list.get(index)).collect();
        Tensor::concat_rows(&parts?)
    };
    (0..count).map(joined).collect()
}
