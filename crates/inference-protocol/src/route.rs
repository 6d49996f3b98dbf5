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
    /// `POST /{service}/{rpc}`.
    Grpc(grpc::Method),
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

impl Route {
    /// The endpoint that `method` and `path` mean. A query and one trailing slash are ignored; names are
    /// percent-decoded; a version is digits. `HEAD` goes where `GET` goes.
    ///
    /// # Errors
    /// [`ProtocolError::NotFound`] for an unknown path, [`ProtocolError::MethodNotAllowed`] for a known one with another
    /// method, [`ProtocolError::UnknownRpc`] for an unknown RPC of a known service.
    pub fn parse(method: &http::Method, path: &str) -> Result<Route, ProtocolError> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let (route, allow) = Route::find(path)?;
        let allowed = match allow {
            GET => method == http::Method::GET || method == http::Method::HEAD,
            _ => method == http::Method::POST,
        };
        if allowed {
            Ok(route)
        } else {
            Err(ProtocolError::MethodNotAllowed { allow })
        }
    }

    /// The model that the path names.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Route::V1Model(model)
            | Route::V1Predict(model)
            | Route::V1Explain(model)
            | Route::ModelMetadata(model)
            | Route::ModelReady(model)
            | Route::Infer(model)
            | Route::ModelConfig(model)
            | Route::ModelStats(model) => Some(model),
            Route::V1Alive
            | Route::V1List
            | Route::ServerMetadata
            | Route::ServerLive
            | Route::ServerReady
            | Route::AllStats
            | Route::RepositoryIndex { .. }
            | Route::RepositoryLoad { .. }
            | Route::RepositoryUnload { .. }
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

    fn find(path: &str) -> Result<(Route, &'static str), ProtocolError> {
        let path = path.strip_prefix('/').ok_or(ProtocolError::NotFound)?;
        if path.is_empty() {
            return Ok((Route::V1Alive, GET));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = path.split('/');
        let first = segments.next().unwrap_or_default();
        match first {
            "v2" => v2(&segments.collect::<smallvec::SmallVec<[&str; 8]>>()).ok_or(ProtocolError::NotFound),
            "v1" => v1(&segments.collect::<smallvec::SmallVec<[&str; 8]>>()).ok_or(ProtocolError::NotFound),
            "inference.GRPCInferenceService" | "grpc.health.v1.Health" => {
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

fn v2(segments: &[&str]) -> Option<(Route, &'static str)> {
    Some(match segments {
        [] => (Route::ServerMetadata, GET),
        ["health", "live"] => (Route::ServerLive, GET),
        ["health", "ready"] => (Route::ServerReady, GET),
        ["models", "stats"] => (Route::AllStats, GET),
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

/// V1 writes the verb after a colon, which a model's name may contain as well: only a known verb is one.
fn v1(segments: &[&str]) -> Option<(Route, &'static str)> {
    let (name, version, last) = match segments {
        ["models"] => return Some((Route::V1List, GET)),
        ["models", name] => (*name, None, *name),
        ["models", name, "versions", version] => (*name, Some(*version), *version),
        _ => return None,
    };
    let (stem, verb) = match last.rsplit_once(':') {
        Some((stem, verb @ ("predict" | "explain"))) => (stem, Some(verb)),
        _ => (last, None),
    };
    let model = match version {
        None => model(stem, None)?,
        Some(_) => model(name, Some(stem))?,
    };
    Some(match verb {
        Some("predict") => (Route::V1Predict(model), POST),
        Some(_) => (Route::V1Explain(model), POST),
        None => (Route::V1Model(model), GET),
    })
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

    #[test]
    fn every_endpoint_has_its_route() {
        let churn = || ModelRef::new("churn");
        let some = |name: &str| Some(name.to_owned());
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
            (
                "/v2/models/churn/versions/2/ready",
                Route::ModelReady(versioned("churn", "2")),
            ),
            ("/v2/models/churn/config", Route::ModelConfig(churn())),
            ("/v2/models/churn/stats", Route::ModelStats(churn())),
            ("/v2/models/stats", Route::AllStats),
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
        for (path, route) in [
            ("/v1/models/churn:predict", Route::V1Predict(churn())),
            ("/v1/models/a:b:predict", Route::V1Predict(ModelRef::new("a:b"))),
            (
                "/v1/models/churn/versions/2:predict",
                Route::V1Predict(versioned("churn", "2")),
            ),
            ("/v1/models/churn:explain", Route::V1Explain(churn())),
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
                    repository: some("r"),
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
                    repository: some("r"),
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
            "/v2/models/churn/infer/more",
            "/inference.Other/ModelInfer",
        ] {
            assert_eq!(post(path), Err(ProtocolError::NotFound), "{path}");
        }
        let unknown = post("/inference.GRPCInferenceService/Nothing").unwrap_err();
        assert_eq!(unknown.grpc_code(), crate::GrpcCode::Unimplemented);
    }
}
