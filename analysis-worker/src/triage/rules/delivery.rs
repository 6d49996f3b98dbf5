//! Training, the gates of models, deployments.

use super::Rule;
use crate::report::FailureType::{Deployment, ModelValidation, Training};

pub(super) const RULES: &[Rule] = &[
    // Gates of models.
    Rule::new(
        ModelValidation,
        "metric gate",
        9,
        r"(?i)\b(?P<subject>accuracy|balanced[_ ]accuracy|precision|recall|f1(?:[_ -]score)?|(?:roc[_ ]?)?auc|pr[_ ]?auc|log[_ -]?loss|brier(?:[_ ]score)?|rmse|mae|mape|r2|ndcg|bleu|calibration[_ ]error|psi)\b[^\n]{0,60}?(?:\bis below\b|\bbelow (?:the )?(?:threshold|minimum|required|gate|baseline)|\bless than (?:the )?(?:threshold|minimum|required)|\babove (?:the )?(?:threshold|maximum|allowed)|\bunder (?:the )?threshold|\bdoes not meet\b|\bdid not (?:meet|reach|pass)\b|\bexceeds\b|\b(?:worse|lower) than (?:the )?(?:baseline|champion|production)|\bdegraded\b|< ?(?:the )?(?:threshold|minimum|required))",
    ),
    Rule::new(
        ModelValidation,
        "metric gate",
        9,
        r"(?i)\b(?:model|quality|validation|evaluation|promotion|metric)s?[ _-](?:gate|validation|check|threshold)s?\b[^\n]{0,40}\b(?:failed|not met|not passed|refused|rejected|violated)",
    ),
    Rule::new(
        ModelValidation,
        "metric gate",
        8,
        r"^(?:E +)?AssertionError: .*\b(?P<subject>accuracy|precision|recall|f1|auc|rmse|mae|log_?loss)\b.*[<>]",
    ),
    Rule::new(
        ModelValidation,
        "Great Expectations",
        8,
        r"(?i)validation (?:failed|unsuccessful)\b.*expectation|(?P<subject>expect_\w+)\b.*\b(?:failed|success\W+false)",
    ),
    Rule::new(
        ModelValidation,
        "data validation",
        7,
        r"(?i)pandera\.errors\.SchemaErrors?|\bschema validation failed\b|(?P<subject>data (?:drift|quality)) (?:detected|check failed|test failed)",
    ),
    Rule::new(
        ModelValidation,
        "ONNX check",
        8,
        r"(?i)\b(?:onnx|export(?:ed)? model)\b.*\b(?:differs?|mismatch|parity)\b|ParityError|a probability differs from",
    ),
    // Training.
    Rule::new(
        Training,
        "training",
        9,
        r"(?i)\b(?:loss|gradient|grad_norm)\b[^\n]{0,30}\b(?:is|became|=|:) ?(?:nan|inf)\b|\bnon-finite loss\b|training diverged",
    ),
    Rule::new(
        Training,
        "scikit-learn",
        8,
        r"^(?:E +)?(?:\w+\.)*ValueError: (?P<message>Input (?:X|y)?\s?contains (?:NaN|infinity).*|Found (?:array|input variables) with .*|y contains previously unseen labels.*|Unknown label type.*)",
    ),
    Rule::new(
        Training,
        "XGBoost",
        8,
        r"xgboost\.core\.XGBoostError: (?P<message>.+)|LightGBMError: (?P<subject>.+)",
    ),
    Rule::new(
        Training,
        "MLflow",
        7,
        r"(?:mlflow\.exceptions\.)?(?:MlflowException|RestException): (?P<message>.+)",
    ),
    Rule::new(
        Training,
        "training",
        6,
        r"(?i)^(?:error: )?training (?:job |run |step )?(?:failed|aborted|stopped)\b",
    ),
    Rule::new(
        Training,
        "PyTorch",
        6,
        r"^(?:E +)?RuntimeError: (?P<message>(?:mat1 and mat2 shapes cannot be multiplied|The size of tensor .*|Expected all tensors to be on the same device|element 0 of tensors does not require grad).*)",
    ),
    // Deployments.
    Rule::new(
        Deployment,
        "Helm",
        9,
        r"^Error: (?P<message>(?:UPGRADE|INSTALLATION|ROLLBACK) FAILED: .+|failed to (?:install|upgrade).*|release \S+ failed.*)",
    ),
    Rule::new(
        Deployment,
        "Helm",
        8,
        r"^Error: (?P<message>(?:execution error at|template: |values don't meet the specifications|render error in|chart \S+ (?:matching|not found)|YAML parse error on).+)",
    ),
    Rule::new(
        Deployment,
        "kubectl",
        9,
        r"^error: (?P<message>timed out waiting for the condition.*|deployment \S+ exceeded its progress deadline.*)",
    ),
    Rule::new(
        Deployment,
        "kubectl",
        8,
        r"^(?:E\d{4} .*\] )?(?P<message>Error from server(?: \(\w+\))?: .+|error: unable to (?:recognize|decode|connect to the server).*|The (?P<subject>\w+ \S+) is invalid:.*)",
    ),
    Rule::new(
        Deployment,
        "kubectl",
        7,
        r"^error: (?P<message>error (?:validating|parsing|when) .+|resource mapping not found .+|no matches for kind .+)",
    ),
    Rule::new(
        Deployment,
        "Kubernetes",
        7,
        r"\b(?P<subject>CrashLoopBackOff|ImagePullBackOff|ErrImagePull|CreateContainerConfigError|ProgressDeadlineExceeded)\b",
    ),
    Rule::new(
        Deployment,
        "Argo CD",
        8,
        r"(?i)^(?:FATA\[\d+\]|time=.*level=fatal).*(?P<message>(?:argocd|application|sync|rpc error|operation).*)",
    ),
    Rule::new(
        Deployment,
        "Argo CD",
        8,
        r"(?i)\b(?:sync (?:operation )?(?:to \S+ )?failed|ComparisonError|health status\W+degraded|app(?:lication)? \S+ .*(?:degraded|OutOfSync))",
    ),
    Rule::new(
        Deployment,
        "Kustomize",
        8,
        r"^Error: (?P<message>(?:accumulating resources|no matches for Id|trouble configuring builtin|invalid Kustomization|.*kustomization\.ya?ml).*)",
    ),
    Rule::new(Deployment, "Terraform", 8, r"^\x{2502} Error: (?P<message>.+)").after(),
    Rule::new(
        Deployment,
        "docker push",
        8,
        r"^denied: (?P<message>.+)|(?:push|pushing)\b.*\b(?:denied|unauthorized|failed)",
    ),
    Rule::new(
        Deployment,
        "KServe",
        7,
        r"(?i)inferenceservice \S+ (?:is not ready|failed|not ready)|revision \S+ failed",
    ),
];
