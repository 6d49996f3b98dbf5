//! Which endpoint a method and a path mean.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{ModelRef, ProtocolError, error::shown, grpc};

/// An endpoint of the protocol, and what its path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /`: V1 liveness.
    V1Alive,
    /// `GET /v1/models`.
    V1List,
    /// `GET /v1/models/{m}`: V1 readiness of a model.
    V1Model(ModelRef),
    /// `GET /v1/models/{m}[/versions/{v}]/metadata`.
    V1Metadata(ModelRef),
    /// Any of V1's endpoints with `/labels/{label}` where a version may stand.
    V1Label {
        /// The model.
        model: ModelRef,
        /// TensorFlow Serving's name for a version, which a configuration gives.
        label: String,
    },
    /// `POST /v1/models/{m}:predict`.
    V1Predict(ModelRef),
    /// `POST /v1/models/{m}:explain`.
    V1Explain(ModelRef),
    /// `GET /v2`.
    ServerMetadata,
    /// `GET /v2/health/live`.
    ServerLive,
    /// `GET /v2/health/ready`.
    ServerReady,
    /// `GET /v2/models/{m}[/versions/{v}]`.
    ModelMetadata(ModelRef),
    /// `GET /v2/models/{m}[/versions/{v}]/ready`.
    ModelReady(ModelRef),
    /// `POST /v2/models/{m}[/versions/{v}]/infer`.
    Infer(ModelRef),
    /// `GET /v2/models/{m}[/versions/{v}]/config`.
    ModelConfig(ModelRef),
    /// `GET /v2/models/{m}[/versions/{v}]/stats`.
    ModelStats(ModelRef),
    /// `GET /v2/models/stats`.
    AllStats,
    /// `GET /v2/models/{m}[/versions/{v}]/openapi.json`; no part of the protocol.
    ModelOpenApi(ModelRef),
    /// `GET /v2/openapi.json`; no part of the protocol.
    OpenApi,
    /// `GET /v2/docs`; no part of the protocol.
    Docs,
    /// `POST /v2/repository[/{repository}]/index`.
    RepositoryIndex {
        /// The repository, if the path names one.
        repository: Option<String>,
    },
    /// `POST /v2/repository[/{repository}]/models/{m}/load`.
    RepositoryLoad {
        /// The repository, if the path names one.
        repository: Option<String>,
        /// The model.
        model: String,
    },
    /// `POST /v2/repository[/{repository}]/models/{m}/unload`.
    RepositoryUnload {
        /// The repository, if the path names one.
        repository: Option<String>,
        /// The model.
        model: String,
    },
    /// `/v2/trace/setting`, `/v2/models/{m}/trace/setting`.
    TraceSetting {
        /// The model, if the path names one.
        model: Option<ModelRef>,
        /// Whether it is to be changed (`POST`) or shown (`GET`).
        access: Access,
    },
    /// `/v2/logging`.
    Logging(Access),
    /// `/v2/systemsharedmemory[/region/{r}]/{action}`, `/v2/cudasharedmemory[/region/{r}]/{action}`.
    SharedMemory {
        /// The region, if the path names one.
        region: Option<String>,
        /// What to do with it.
        action: SharedMemory,
    },
    /// `POST /{service}/{rpc}`.
    Grpc(grpc::Method),
}

/// What a request does with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks at them.
    Show,
    /// Changes them.
    Change,
}

/// What a request does with regions of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedMemory {
    /// Looks at them.
    Status,
    /// Adds one.
    Register,
    /// Removes one, or all.
    Unregister,
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
const GET_OR_POST: &str = "GET, HEAD, POST";

impl Route {
    /// The endpoint that `method` and `path` mean. A query and one trailing slash are ignored; names are
    /// percent-decoded; a version is digits. `HEAD` goes where `GET` goes.
    ///
    /// # Errors
    /// [`ProtocolError::NotFound`] for an unknown path, [`ProtocolError::MethodNotAllowed`] for a known one with another
    /// method, [`ProtocolError::UnknownRpc`] for an unknown RPC of a known service.
    pub fn parse(method: &http::Method, path: &str) -> Result<Route, ProtocolError> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let reads = method == http::Method::GET || method == http::Method::HEAD;
        let access = if reads { Access::Show } else { Access::Change };
        let (route, allow) = Route::find(path, access)?;
        let posts = method == http::Method::POST;
        if (reads && allow != POST) || (posts && allow != GET) {
            Ok(route)
        } else {
            Err(ProtocolError::MethodNotAllowed { allow })
        }
    }

    /// The model that the path names.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Route::V1Model(model)
            | Route::V1Metadata(model)
            | Route::V1Label { model, .. }
            | Route::V1Predict(model)
            | Route::V1Explain(model)
            | Route::ModelMetadata(model)
            | Route::ModelReady(model)
            | Route::Infer(model)
            | Route::ModelConfig(model)
            | Route::ModelStats(model)
            | Route::ModelOpenApi(model) => Some(model),
            Route::TraceSetting { model, .. } => model.as_ref(),
            Route::V1Alive
            | Route::V1List
            | Route::ServerMetadata
            | Route::ServerLive
            | Route::ServerReady
            | Route::AllStats
            | Route::OpenApi
            | Route::Docs
            | Route::RepositoryIndex { .. }
            | Route::RepositoryLoad { .. }
            | Route::RepositoryUnload { .. }
            | Route::Logging(_)
            | Route::SharedMemory { .. }
            | Route::Grpc(_) => None,
        }
    }

    /// Whether a model answers with a prediction: `Infer` or `V1Predict`. For gRPC ask the RPC.
    pub fn is_inference(&self) -> bool {
        matches!(
            self,
            Route::Infer(_)
                | Route::V1Predict(_)
                | Route::Grpc(grpc::Method::ModelInfer | grpc::Method::ModelStreamInfer)
        )
    }

    fn find(path: &str, access: Access) -> Result<(Route, &'static str), ProtocolError> {
        let path = path.strip_prefix('/').ok_or(ProtocolError::NotFound)?;
        if path.is_empty() {
            return Ok((Route::V1Alive, GET));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = path.split('/');
        let first = segments.next().unwrap_or_default();
        match first {
            "v2" => {
                let segments = segments.collect::<smallvec::SmallVec<[&str; 8]>>();
                v2(&segments, access).ok_or(ProtocolError::NotFound)
            }
            "v1" => v1(&segments.collect::<smallvec::SmallVec<[&str; 8]>>()).ok_or(ProtocolError::NotFound),
            "inference.GRPCInferenceService"
            | "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection" => {
                let rpc = grpc::Method::ALL.into_iter().find(|rpc| &rpc.path()[1..] == path);
                match rpc {
                    Some(rpc) => Ok((Route::Grpc(rpc), POST)),
                    None => Err(ProtocolError::UnknownRpc { method: shown(path) }),
                }
            }
            _ => Err(ProtocolError::NotFound),
        }
    }
}

fn decoded(segment: &str) -> Option<String> {
    let name: Cow<'_, str> = percent_decode_str(segment).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

fn model(name: &str, version: Option<&str>) -> Option<ModelRef> {
    let digits = |version: &str| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    if version.is_some_and(|version| !digits(version)) {
        return None;
    }
    Some(ModelRef {
        name: decoded(name)?,
        version: version.map(str::to_owned),
    })
}

fn v2(segments: &[&str], access: Access) -> Option<(Route, &'static str)> {
    Some(match segments {
        [] => (Route::ServerMetadata, GET),
        ["health", "live"] => (Route::ServerLive, GET),
        ["health", "ready"] => (Route::ServerReady, GET),
        ["openapi.json"] => (Route::OpenApi, GET),
        ["docs"] => (Route::Docs, GET),
        ["models", "stats"] => (Route::AllStats, GET),
        ["logging"] => (Route::Logging(access), GET_OR_POST),
        ["trace", "setting"] => (Route::TraceSetting { model: None, access }, GET_OR_POST),
        ["models", name, "trace", "setting"] => {
            let model = Some(model(name, None)?);
            (Route::TraceSetting { model, access }, GET_OR_POST)
        }
        ["systemsharedmemory" | "cudasharedmemory", action] => shared_memory(None, action)?,
        [
            "systemsharedmemory" | "cudasharedmemory",
            "region",
            region,
            action,
        ] => shared_memory(Some(decoded(region)?), action)?,
        ["models", name] => (Route::ModelMetadata(model(name, None)?), GET),
        ["models", name, "versions", version] => (Route::ModelMetadata(model(name, Some(version))?), GET),
        ["models", name, action] => of_model(model(name, None)?, action)?,
        ["models", name, "versions", version, action] => of_model(model(name, Some(version))?, action)?,
        ["repository", "index"] => (Route::RepositoryIndex { repository: None }, POST),
        ["repository", repository, "index"] => (
            Route::RepositoryIndex {
                repository: Some(decoded(repository)?),
            },
            POST,
        ),
        ["repository", "models", name, action] => of_repository(None, name, action)?,
        ["repository", repository, "models", name, action] => {
            of_repository(Some(decoded(repository)?), name, action)?
        }
        _ => return None,
    })
}

fn of_model(model: ModelRef, action: &str) -> Option<(Route, &'static str)> {
    Some(match action {
        "infer" => (Route::Infer(model), POST),
        "ready" => (Route::ModelReady(model), GET),
        "config" => (Route::ModelConfig(model), GET),
        "stats" => (Route::ModelStats(model), GET),
        "openapi.json" => (Route::ModelOpenApi(model), GET),
        _ => return None,
    })
}

fn of_repository(repository: Option<String>, name: &str, action: &str) -> Option<(Route, &'static str)> {
    let model = decoded(name)?;
    Some(match action {
        "load" => (Route::RepositoryLoad { repository, model }, POST),
        "unload" => (Route::RepositoryUnload { repository, model }, POST),
        _ => return None,
    })
}

fn shared_memory(region: Option<String>, action: &str) -> Option<(Route, &'static str)> {
    let (action, allow) = match action {
        "status" => (SharedMemory::Status, GET),
        "register" => (SharedMemory::Register, POST),
        "unregister" => (SharedMemory::Unregister, POST),
        _ => return None,
    };
    Some((Route::SharedMemory { region, action }, allow))
}

/// V1 writes the verb after a colon, which a model's name may contain as well: only a known verb is one.
fn v1(segments: &[&str]) -> Option<(Route, &'static str)> {
    fn split(last: &str) -> (&str, Option<&str>) {
        match last.rsplit_once(':') {
            Some((stem, verb @ ("predict" | "explain"))) => (stem, Some(verb)),
            _ => (last, None),
        }
    }
    match segments {
        ["models"] => Some((Route::V1List, GET)),
        ["models", name, "metadata"] => Some((Route::V1Metadata(model(name, None)?), GET)),
        ["models", name, "versions", version, "metadata"] => {
            Some((Route::V1Metadata(model(name, Some(version))?), GET))
        }
        ["models", name, "labels", label, rest @ ..] => {
            let (label, verb) = split(label);
            let allow = match (rest, verb) {
                ([], Some(_)) => POST,
                ([] | ["metadata"], None) => GET,
                _ => return None,
            };
            let (model, label) = (model(name, None)?, decoded(label)?);
            Some((Route::V1Label { model, label }, allow))
        }
        ["models", name] => {
            let (name, verb) = split(name);
            Some(v1_of(model(name, None)?, verb))
        }
        ["models", name, "versions", version] => {
            let (version, verb) = split(version);
            Some(v1_of(model(name, Some(version))?, verb))
        }
        _ => None,
    }
}

fn v1_of(model: ModelRef, verb: Option<&str>) -> (Route, &'static str) {
    match verb {
        Some("predict") => (Route::V1Predict(model), POST),
        Some(_) => (Route::V1Explain(model), POST),
        None => (Route::V1Model(model), GET),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn get(path: &str) -> Result<Route, ProtocolError> {
        Route::parse(&Method::GET, path)
    }

    fn post(path: &str) -> Result<Route, ProtocolError> {
        Route::parse(&Method::POST, path)
    }

    fn versioned(name: &str, version: &str) -> ModelRef {
        ModelRef {
            name: name.to_owned(),
            version: Some(version.to_owned()),
        }
    }

    fn churn() -> ModelRef {
        ModelRef::new("churn")
    }

    fn label(label: &str) -> Route {
        Route::V1Label {
            model: churn(),
            label: label.to_owned(),
        }
    }

    #[test]
    fn every_endpoint_that_is_read_has_its_route() {
        for (path, route) in [
            ("/", Route::V1Alive),
            ("/v1/models", Route::V1List),
            ("/v1/models/churn", Route::V1Model(churn())),
            (
                "/v1/models/churn/versions/2",
                Route::V1Model(versioned("churn", "2")),
            ),
            ("/v2", Route::ServerMetadata),
            ("/v2/", Route::ServerMetadata),
            ("/v2/health/live", Route::ServerLive),
            ("/v2/health/ready?x=1", Route::ServerReady),
            ("/v2/models/churn", Route::ModelMetadata(churn())),
            (
                "/v2/models/churn/versions/2",
                Route::ModelMetadata(versioned("churn", "2")),
            ),
            ("/v2/models/churn/ready", Route::ModelReady(churn())),
            ("/v2/openapi.json", Route::OpenApi),
            ("/v2/docs", Route::Docs),
            ("/v2/models/churn/openapi.json", Route::ModelOpenApi(churn())),
            (
                "/v2/models/churn/versions/2/openapi.json",
                Route::ModelOpenApi(versioned("churn", "2")),
            ),
            (
                "/v2/models/churn/versions/2/ready",
                Route::ModelReady(versioned("churn", "2")),
            ),
            ("/v2/models/churn/config", Route::ModelConfig(churn())),
            ("/v2/models/churn/stats", Route::ModelStats(churn())),
            ("/v2/models/stats", Route::AllStats),
            ("/v1/models/churn/metadata", Route::V1Metadata(churn())),
            (
                "/v1/models/churn/versions/2/metadata",
                Route::V1Metadata(versioned("churn", "2")),
            ),
            ("/v1/models/churn/labels/stable", label("stable")),
            ("/v1/models/churn/labels/a%20b/metadata", label("a b")),
            (
                "/v2/systemsharedmemory/status",
                Route::SharedMemory {
                    region: None,
                    action: SharedMemory::Status,
                },
            ),
            (
                "/v2/models/a%2Fb%20c",
                Route::ModelMetadata(ModelRef::new("a/b c")),
            ),
        ] {
            assert_eq!(get(path), Ok(route.clone()), "{path}");
            assert_eq!(Route::parse(&Method::HEAD, path), Ok(route), "{path}");
            assert_eq!(
                post(path),
                Err(ProtocolError::MethodNotAllowed { allow: "GET, HEAD" }),
                "{path}"
            );
        }
    }

    #[test]
    fn every_endpoint_that_is_posted_to_has_its_route() {
        for (path, route) in [
            ("/v1/models/churn:predict", Route::V1Predict(churn())),
            ("/v1/models/a:b:predict", Route::V1Predict(ModelRef::new("a:b"))),
            (
                "/v1/models/churn/versions/2:predict",
                Route::V1Predict(versioned("churn", "2")),
            ),
            ("/v1/models/churn:explain", Route::V1Explain(churn())),
            ("/v1/models/churn/labels/stable:predict", label("stable")),
            (
                "/v2/cudasharedmemory/region/r/register",
                Route::SharedMemory {
                    region: Some("r".to_owned()),
                    action: SharedMemory::Register,
                },
            ),
            (
                "/v2/systemsharedmemory/unregister",
                Route::SharedMemory {
                    region: None,
                    action: SharedMemory::Unregister,
                },
            ),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Route::Grpc(grpc::Method::Reflection),
            ),
            ("/v2/models/churn/infer", Route::Infer(churn())),
            (
                "/v2/models/churn/versions/2/infer",
                Route::Infer(versioned("churn", "2")),
            ),
            (
                "/v2/repository/index",
                Route::RepositoryIndex { repository: None },
            ),
            (
                "/v2/repository/r/index",
                Route::RepositoryIndex {
                    repository: Some("r".to_owned()),
                },
            ),
            (
                "/v2/repository/models/churn/load",
                Route::RepositoryLoad {
                    repository: None,
                    model: "churn".to_owned(),
                },
            ),
            (
                "/v2/repository/r/models/churn/unload",
                Route::RepositoryUnload {
                    repository: Some("r".to_owned()),
                    model: "churn".to_owned(),
                },
            ),
            (
                "/inference.GRPCInferenceService/ModelInfer",
                Route::Grpc(grpc::Method::ModelInfer),
            ),
            (
                "/grpc.health.v1.Health/Check",
                Route::Grpc(grpc::Method::HealthCheck),
            ),
        ] {
            assert_eq!(post(path), Ok(route), "{path}");
            assert_eq!(
                get(path),
                Err(ProtocolError::MethodNotAllowed { allow: "POST" }),
                "{path}"
            );
        }
    }

    #[test]
    fn settings_are_shown_and_changed_at_one_path() {
        let setting = |access| Route::TraceSetting {
            model: Some(ModelRef::new("churn")),
            access,
        };
        let path = "/v2/models/churn/trace/setting";
        assert_eq!(get(path), Ok(setting(Access::Show)));
        assert_eq!(post(path), Ok(setting(Access::Change)));
        assert_eq!(get("/v2/logging"), Ok(Route::Logging(Access::Show)));
        assert_eq!(post("/v2/logging"), Ok(Route::Logging(Access::Change)));
        assert_eq!(
            Route::parse(&Method::PUT, "/v2/logging"),
            Err(ProtocolError::MethodNotAllowed {
                allow: "GET, HEAD, POST"
            })
        );
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "",
            "v2",
            "//",
            "/v3",
            "/v2/model",
            "/v2/models",
            "/v2/models/",
            "/v2/models/churn/versions/x",
            "/v2/models/churn/versions//infer",
            "/v2/models//infer",
            "/v2/models/churn/predict",
            "/v2/health",
            "/v1/models/:predict",
            "/v1/models/churn/versions/x:predict",
            "/v2/models/%ff/infer",
            "/v1",
            "/v1/models/churn/labels/stable/infer",
            "/v1/models/churn/labels/",
            "/v2/systemsharedmemory/region/r",
            "/v2/models/churn/infer/more",
            "/inference.Other/ModelInfer",
        ] {
            assert_eq!(post(path), Err(ProtocolError::NotFound), "{path}");
        }
        let unknown = post("/inference.GRPCInferenceService/Nothing").unwrap_err();
        assert_eq!(unknown.grpc_code(), crate::GrpcCode::Unimplemented);
    }
}
