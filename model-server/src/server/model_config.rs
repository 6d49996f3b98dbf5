//! The extension `model_configuration`: how a model is served, in Triton's terms.

use std::collections::HashMap;

use plumbline_inference_protocol::grpc::proto;
use plumbline_inference_protocol::{Datatype, TensorSpec};
use proto::model_config::SchedulingChoice;
use proto::model_instance_group::Kind;
use proto::model_queue_policy::TimeoutAction;
use proto::model_version_policy::{All, Latest, PolicyChoice, Specific};
use proto::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelParameter,
    ModelQueuePolicy, ModelTransactionPolicy,
};
use serde_json::{Map, Value, json};

use crate::model::PLATFORM;
use crate::repository::{Served, VersionPolicy};
use crate::scheduler::Description;

/// What Triton calls the runtime.
const BACKEND: &str = "onnxruntime";

/// The configuration of a version of a model. `max_body_bytes` bounds the rows of a request; nothing else does.
pub(super) fn config(served: &Served, max_body_bytes: usize) -> ModelConfig {
    let model = &served.model;
    let (inputs, outputs) = (&model.signature.inputs, &model.signature.outputs);
    let has_rows = |specs: &[TensorSpec]| {
        let has_rows = |spec: &TensorSpec| !spec.any_rank && spec.shape.rows() == Some(-1);
        !specs.is_empty() && specs.iter().all(has_rows)
    };
    let batches = has_rows(inputs) && has_rows(outputs);
    let dims = |spec: &TensorSpec| {
        let dimensions = spec.shape.dimensions();
        let skipped = usize::from(batches).min(dimensions.len());
        dimensions[skipped..].to_vec()
    };
    let max_batch_size = if batches {
        most_rows(inputs, max_body_bytes)
    } else {
        0
    };
    let optional = model.properties().find(|(name, _)| name == "optional_inputs");
    let optional: Vec<String> = optional
        .and_then(|(_, names)| serde_json::from_str(names).ok())
        .unwrap_or_default();
    let parameters = model
        .properties()
        .map(|(name, labels)| {
            let string_value = labels.to_owned();
            (name, ModelParameter { string_value })
        })
        .collect();
    ModelConfig {
        name: model.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        version_policy: Some(version_policy(&served.policy)),
        max_batch_size,
        input: inputs
            .iter()
            .map(|spec| ModelInput {
                name: spec.name.clone(),
                data_type: data_type(spec.datatype).into(),
                dims: dims(spec),
                optional: optional.contains(&spec.name),
            })
            .collect(),
        output: outputs
            .iter()
            .map(|spec| ModelOutput {
                name: spec.name.clone(),
                data_type: data_type(spec.datatype).into(),
                dims: dims(spec),
            })
            .collect(),
        instance_group: vec![ModelInstanceGroup {
            name: model.name.clone(),
            count: i32::try_from(model.instances.get()).unwrap_or(i32::MAX),
            kind: Kind::Cpu.into(),
        }],
        scheduling_choice: batching(&model.schedule()),
        parameters,
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    }
}

/// Batches form of what waits already, so that nothing is delayed; what may not share a run is not batched.
fn batching(schedule: &Description) -> Option<SchedulingChoice> {
    if !schedule.joins {
        return None;
    }
    let pays = i32::try_from(schedule.batch_rows).ok().filter(|&rows| rows > 1);
    Some(SchedulingChoice::DynamicBatching(ModelDynamicBatching {
        preferred_batch_size: pays.into_iter().collect(),
        max_queue_delay_microseconds: 0,
        preserve_ordering: false,
        priority_levels: u64::from(u32::MAX),
        default_priority_level: u64::from(schedule.default_priority),
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: TimeoutAction::Reject.into(),
            default_timeout_microseconds: 0,
            allow_timeout_override: true,
            max_queue_size: u32::try_from(schedule.max_queue).unwrap_or(u32::MAX),
        }),
    }))
}

/// Rows of the smallest kind that a body carries.
fn most_rows(inputs: &[TensorSpec], max_body_bytes: usize) -> i32 {
    let row = |spec: &TensorSpec| {
        let values = spec.shape.dimensions().iter().skip(1);
        let values = values.fold(1_u64, |values, &n| values.saturating_mul(n.unsigned_abs().max(1)));
        // A text is at least its length.
        values.saturating_mul(spec.datatype.width().unwrap_or(4) as u64)
    };
    let row = inputs.iter().map(row).fold(0_u64, u64::saturating_add).max(1);
    i32::try_from((max_body_bytes as u64 / row).max(1)).unwrap_or(i32::MAX)
}

fn version_policy(policy: &VersionPolicy) -> proto::ModelVersionPolicy {
    let choice = match policy {
        VersionPolicy::Latest(count) => PolicyChoice::Latest(Latest {
            num_versions: u32::try_from(count.get()).unwrap_or(u32::MAX),
        }),
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Specific(versions) => PolicyChoice::Specific(Specific {
            versions: versions.iter().map(|&version| version as i64).collect(),
        }),
    };
    proto::ModelVersionPolicy {
        policy_choice: Some(choice),
    }
}

const fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}

/// The configuration as Triton's REST endpoint writes it: fields under their names in the message, numbers as numbers.
pub(super) fn to_json(config: &ModelConfig) -> Value {
    let input = |input: &ModelInput| {
        json!({
            "name": input.name,
            "data_type": input.data_type().as_str_name(),
            "format": "FORMAT_NONE",
            "dims": input.dims,
            "is_shape_tensor": false,
            "allow_ragged_batch": false,
            "optional": input.optional,
        })
    };
    let output = |output: &ModelOutput| {
        json!({
            "name": output.name,
            "data_type": output.data_type().as_str_name(),
            "dims": output.dims,
            "label_filename": "",
            "is_shape_tensor": false,
        })
    };
    let group = |group: &ModelInstanceGroup| json!({"name": group.name, "kind": group.kind().as_str_name(), "count": group.count});
    let mut object = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "version_policy": config.version_policy.as_ref().map_or(json!({}), policy_to_json),
        "max_batch_size": config.max_batch_size,
        "input": config.input.iter().map(input).collect::<Vec<_>>(),
        "output": config.output.iter().map(output).collect::<Vec<_>>(),
        "instance_group": config.instance_group.iter().map(group).collect::<Vec<_>>(),
        "parameters": parameters_to_json(&config.parameters),
        "model_transaction_policy": {"decoupled": false},
    });
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        let policy = batching.default_queue_policy.unwrap_or_default();
        object["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
            "preserve_ordering": batching.preserve_ordering,
            "priority_levels": batching.priority_levels,
            "default_priority_level": batching.default_priority_level,
            "default_queue_policy": {
                "timeout_action": TimeoutAction::Reject.as_str_name(),
                "default_timeout_microseconds": policy.default_timeout_microseconds,
                "allow_timeout_override": policy.allow_timeout_override,
                "max_queue_size": policy.max_queue_size,
            },
        });
    }
    object
}

fn policy_to_json(policy: &proto::ModelVersionPolicy) -> Value {
    match &policy.policy_choice {
        None => json!({}),
        Some(PolicyChoice::Latest(Latest { num_versions })) => {
            json!({"latest": {"num_versions": num_versions}})
        }
        Some(PolicyChoice::All(All {})) => json!({"all": {}}),
        Some(PolicyChoice::Specific(Specific { versions })) => json!({"specific": {"versions": versions}}),
    }
}

fn parameters_to_json(parameters: &HashMap<String, ModelParameter>) -> Map<String, Value> {
    let value = |(name, value): (&String, &ModelParameter)| {
        let value = json!({"string_value": value.string_value});
        (name.clone(), value)
    };
    parameters.iter().map(value).collect()
}
