//! One large request on several sessions.

use std::sync::Arc;
use std::time::Duration;

use super::execute::join;
use super::job::{Answer, Job};
use super::{Done, Refusal, Runner, Shared};

/// A request shorter than this is not worth a second thread: handing over and joining cost tens of microseconds.
const LONG: Duration = Duration::from_micros(400);

/// A split may cost this much more computing in all: what every execution costs, however few its rows.
const MORE: f64 = 1.15;

impl<S: Runner> Shared<S> {
    /// Rows of the parts that `job` should be split into, if it should.
    pub(super) fn part(&self, job: &Job) -> Option<usize> {
        if !job.joins || job.rows < 2 {
            return None;
        }
        let pinned = self.policy.max_rows.filter(|&most| job.rows > most);
        let curve = self.costs.curve(job.class);
        let time = curve.estimate(job.rows);
        let Some(time) = time.filter(|&time| time >= LONG) else {
            return pinned;
        };
        let largest = pinned
            .or_else(|| curve.cheapest_part(job.rows))
            .unwrap_or(job.rows);
        let sessions = self.lock().idle.len().min(self.compute.count());
        let side_by_side = job.rows.div_ceil(sessions.max(1));
        let part = if side_by_side < largest {
            let parts = job.rows.div_ceil(side_by_side) as f64;
            let in_parts = curve.estimate(side_by_side)?.as_secs_f64() * parts;
            let pays = in_parts <= time.as_secs_f64() * MORE;
            if pays { side_by_side } else { largest }
        } else {
            largest
        };
        (part < job.rows).then_some(part)
    }

    /// Runs `job` in parts of `part` rows and joins their outputs. Its place in the queue is that of one request.
    pub(super) async fn run_split(self: &Arc<Self>, job: &Job, part: usize, priority: u32) -> Answer {
        let mut parts = Vec::with_capacity(job.rows.div_ceil(part));
        let mut from = 0;
        while from < job.rows {
            let range = from..(from + part).min(job.rows);
            from = range.end;
            let rows = range.len();
            let inputs = job.inputs.iter().map(|input| input.row_range(range.clone()));
            let of_part = Job {
                inputs: inputs.collect::<Option<_>>().ok_or(Refusal::Failed)?,
                outputs: job.outputs.clone(),
                rows,
                ..*job
            };
            parts.push(self.enqueue(of_part, priority, parts.is_empty())?);
        }
        // The first that fails is the answer; the others are dropped then, and leave the queue.
        let mut whole: Option<Done> = None;
        let mut outputs = Vec::with_capacity(parts.len());
        for waiting in parts {
            let done = waiting.await?;
            match &done.value {
                Ok(tensors) => outputs.push(tensors.clone()),
                Err(_) => return Ok(done),
            }
            whole = Some(match whole {
                None => done,
                Some(so_far) => Done {
                    value: so_far.value,
                    queued: so_far.queued.min(done.queued),
                    computed: so_far.computed.max(done.computed),
                    batch_rows: so_far.batch_rows.max(done.batch_rows),
                    leads: so_far.leads || done.leads,
                },
            });
        }
        let mut whole = whole.ok_or(Refusal::Failed)?;
        let joined = join(&outputs.iter().map(Vec::as_slice)).filter(|joined| {
            joined
                .iter()
                .all(|output| output.shape().rows() == Some(job.rows as i64))
        });
        whole.value = Ok(joined.ok_or_else(|| {
            tracing::error!("outputs of the parts of a request do not have its rows");
            Refusal::Failed
        })?);
        Ok(whole)
    }
}
