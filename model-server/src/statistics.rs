//! What the statistics extension tells: read from the series of the metrics, so that both count the same events.

use plumbline_inference_protocol::grpc::proto;
use proto::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};
use serde_json::{Value, json};

use crate::metrics::{ModelMetrics, Outcome, Spent};

/// The statistics of a version of a model since the process started, or since the version was loaded again after it
/// had been unloaded.
///
/// Input and output are not apart from the run: tensors are used where they lie, so their times are 0. A request that was
/// refused before it reached the model, malformed or too much, has failed.
pub(crate) fn of(model: &str, version: &str, metrics: &ModelMetrics) -> ModelStatistics {
    let outcomes = metrics.requests.outcomes();
    let failed = Outcome::ALL
        .into_iter()
        .filter(|outcome| *outcome != Outcome::Success);
    let fail = failed.map(|outcome| outcomes[outcome as usize]).sum();
    let compute = metrics.computed();
    let instant = Spent {
        count: compute.count,
        ns: 0,
    };
    ModelStatistics {
        name: model.to_owned(),
        version: version.to_owned(),
        last_inference: metrics.last_ran_ms(),
        inference_count: metrics.rows_run(),
        execution_count: metrics.executions().count,
        inference_stats: Some(InferStatistics {
            success: duration(outcomes[Outcome::Success as usize]),
            fail: duration(fail),
            queue: duration(metrics.queued()),
            compute_input: duration(instant),
            compute_infer: duration(compute),
            compute_output: duration(instant),
            cache_hit: duration(Spent::default()),
            cache_miss: duration(Spent::default()),
        }),
        batch_stats: metrics
            .by_rows()
            .into_iter()
            .map(|(rows, spent)| {
                let instant = Spent {
                    count: spent.count,
                    ns: 0,
                };
                InferBatchStatistics {
                    batch_size: rows as u64,
                    compute_input: duration(instant),
                    compute_infer: duration(spent),
                    compute_output: duration(instant),
                }
            })
            .collect(),
        ..ModelStatistics::default()
    }
}

// An option is what the message has.
#[expect(clippy::unnecessary_wraps, reason = "the type of the message's fields")]
fn duration(spent: Spent) -> Option<StatisticDuration> {
    let Spent { count, ns } = spent;
    Some(StatisticDuration { count, ns })
}

/// The body of Triton's REST endpoints: fields under their names in the message, numbers as numbers.
pub(crate) fn to_json(models: &[ModelStatistics]) -> Value {
    let duration = |duration: &Option<StatisticDuration>| {
        let StatisticDuration { count, ns } = duration.unwrap_or_default();
        json!({"count": count, "ns": ns})
    };
    let batch = |batch: &InferBatchStatistics| {
        json!({
            "batch_size": batch.batch_size,
            "compute_input": duration(&batch.compute_input),
            "compute_infer": duration(&batch.compute_infer),
            "compute_output": duration(&batch.compute_output),
        })
    };
    let model = |model: &ModelStatistics| {
        let stats = model.inference_stats.unwrap_or_default();
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": model.last_inference,
            "inference_count": model.inference_count,
            "execution_count": model.execution_count,
            "inference_stats": {
                "success": duration(&stats.success),
                "fail": duration(&stats.fail),
                "queue": duration(&stats.queue),
                "compute_input": duration(&stats.compute_input),
                "compute_infer": duration(&stats.compute_infer),
                "compute_output": duration(&stats.compute_output),
                "cache_hit": duration(&stats.cache_hit),
                "cache_miss": duration(&stats.cache_miss),
            },
            "response_stats": {},
            "batch_stats": model.batch_stats.iter().map(batch).collect::<Vec<_>>(),
            "memory_usage": [],
        })
    };
    json!({"model_stats": models.iter().map(model).collect::<Vec<_>>()})
}
