//! Answers what is asked of the server as a whole; what names a model, or comes to the host of one, goes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::Either;
use pin_project_lite::pin_project;
use plumbline_inference_protocol::grpc::{self, Method as Rpc, Peek, health, proto};
use plumbline_inference_protocol::{GrpcCode, Route as Endpoint, metadata, rest};
use plumbline_service::Readiness;
use tower::{Layer, Service, layer::layer_fn};

use crate::access::Access;
use crate::call::{Call, Family};
use crate::error::{GatewayError, write_grpc_status};
use crate::layers::resolve_model::{Kind, first_message};
use crate::layers::{BoxFuture, Decided};
use crate::route::Route;
use crate::snapshot::Routes;
use plumbline_service::WholeBody;

/// What the gateway forwards of the protocol's extensions.
const EXTENSIONS: [&str; 4] = [
    "classification",
    "model_configuration",
    "statistics",
    "binary_tensor_data",
];

/// Speaks for the gateway itself.
#[derive(Clone, Debug)]
pub(crate) struct AnswerServer<S> {
    inner: S,
    server: Arc<Server>,
}

/// What the gateway says about itself.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) readiness: Readiness,
    pub(crate) access: Arc<Access>,
    pub(crate) routes: Arc<Routes>,
}

/// A call to a model.
#[derive(Debug)]
pub(crate) struct ModelCall {
    pub(crate) call: Call,
    pub(crate) named: Named,
    pub(crate) kind: Kind,
}

/// How a call names its model.
#[derive(Debug)]
pub(crate) enum Named {
    /// By the host that it came to, whatever else it says.
    ByHost(Arc<Route>),
    /// In its path, decoded.
    InPath(String),
    /// In its first message.
    InMessage,
}

pub(crate) fn layer<S>(server: Arc<Server>) -> impl Layer<S, Service = AnswerServer<S>> + Clone {
    layer_fn(move |inner| AnswerServer {
        inner,
        server: Arc::clone(&server),
    })
}

impl<S, B> Service<Call> for AnswerServer<S>
where
    S: Service<ModelCall, Response = Response<B>, Error = GatewayError>,
{
    type Response = Response<Either<WholeBody, B>>;
    type Error = GatewayError;
    type Future = Decided<Result<Self::Response, GatewayError>, Answered<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let future = match self.server.decide(&call) {
            Err(error) => return Decided::now(Err(error)),
            Ok(Decision::Answer(response)) => return Decided::now(Ok(response.map(Either::Left))),
            Ok(Decision::CheckHealth) => {
                let server = Arc::clone(&self.server);
                Answered::Here {
                    future: Box::pin(async move { server.check_health(call).await }),
                }
            }
            Ok(Decision::Forward(named, kind)) => {
                call.verb = kind.verb();
                Answered::Below {
                    future: self.inner.call(ModelCall { call, named, kind }),
                }
            }
        };
        Decided::Inner { future }
    }
}

pin_project! {
    /// An answer of the gateway that has to read the request, or an endpoint's.
    #[project = AnsweredProjection]
    pub(crate) enum Answered<F> {
        Here { future: BoxFuture<Result<Response<WholeBody>, GatewayError>> },
        Below { #[pin] future: F },
    }
}

impl<F, B> Future for Answered<F>
where
    F: Future<Output = Result<Response<B>, GatewayError>>,
{
    type Output = Result<Response<Either<WholeBody, B>>, GatewayError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            AnsweredProjection::Here { future } => {
                ready!(future.as_mut().poll(context)).map(|response| response.map(Either::Left))
            }
            AnsweredProjection::Below { future } => {
                ready!(future.poll(context)).map(|response| response.map(Either::Right))
            }
        })
    }
}

enum Decision {
    Answer(Box<Response<WholeBody>>),
    CheckHealth,
    Forward(Named, Kind),
}

impl Server {
    fn decide(&self, call: &Call) -> Result<Decision, GatewayError> {
        let (method, path) = (call.request.method(), call.request.uri().path());
        let endpoint = match Endpoint::parse(method, path) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                return self
                    .decide_foreign(call)
                    .ok_or_else(|| GatewayError::from_protocol(error))?;
            }
        };
        if call.family != Family::Grpc && matches!(endpoint, Endpoint::Grpc(_)) {
            return Err(GatewayError::Malformed {
                reason: "an RPC whose content-type is not application/grpc",
            });
        }
        let kind = kind(method, &endpoint);
        if !is_about_one_server(&endpoint)
            && let Some(route) = self.routes.load().by_host(&call.request)
        {
            self.access.admit(call)?;
            return Ok(Decision::Forward(Named::ByHost(Arc::clone(route)), kind));
        }
        if !is_health(&endpoint) {
            self.access.admit(call)?;
        }
        let in_path = |name: &String| Ok(Decision::Forward(Named::InPath(name.clone()), kind));
        match &endpoint {
            Endpoint::V1Predict(model)
            | Endpoint::V1Explain(model)
            | Endpoint::Infer(model)
            | Endpoint::V1Model(model)
            | Endpoint::V1Metadata(model)
            | Endpoint::V1Label { model, .. }
            | Endpoint::ModelMetadata(model)
            | Endpoint::ModelReady(model)
            | Endpoint::ModelConfig(model)
            | Endpoint::ModelStats(model)
            | Endpoint::ModelOpenApi(model) => in_path(&model.name),
            Endpoint::Grpc(rpc) => self.decide_grpc(*rpc, kind),
            Endpoint::V1Alive => answer(StatusCode::OK, metadata::v1_alive()),
            Endpoint::V1List => {
                let snapshot = self.routes.load();
                let routes = snapshot.sorted();
                let names = routes.iter().map(|route| &*route.model);
                let names: Vec<&str> = names.filter(|model| self.access.shows(call, model)).collect();
                answer(StatusCode::OK, metadata::v1_list(&names))
            }
            Endpoint::ServerMetadata => {
                let body = metadata::server(&self.name, env!("CARGO_PKG_VERSION"), &EXTENSIONS);
                answer(StatusCode::OK, body)
            }
            Endpoint::ServerLive => answer(StatusCode::OK, metadata::health(true, self.ready())),
            Endpoint::ServerReady if self.ready() => answer(StatusCode::OK, metadata::health(true, true)),
            Endpoint::ServerReady => answer(StatusCode::SERVICE_UNAVAILABLE, metadata::health(true, false)),
            Endpoint::AllStats => not_served("statistics of all models"),
            Endpoint::OpenApi | Endpoint::Docs => not_served("a document of all models"),
            Endpoint::RepositoryIndex { .. }
            | Endpoint::RepositoryLoad { .. }
            | Endpoint::RepositoryUnload { .. } => not_served("the model repository"),
            Endpoint::TraceSetting { .. } | Endpoint::Logging(_) | Endpoint::SharedMemory { .. } => {
                not_served("traces, logging and shared memory")
            }
        }
    }

    /// An RPC of no service that is known here, on the host of a route: a model server may have services of its own.
    fn decide_foreign(&self, call: &Call) -> Option<Result<Decision, GatewayError>> {
        if call.family != Family::Grpc || call.request.method() != Method::POST {
            return None;
        }
        let snapshot = self.routes.load();
        let route = snapshot.by_host(&call.request)?;
        let forward = || Decision::Forward(Named::ByHost(Arc::clone(route)), Kind::Stream);
        Some(self.access.admit(call).map(|()| forward()))
    }

    fn decide_grpc(&self, rpc: Rpc, kind: Kind) -> Result<Decision, GatewayError> {
        match rpc {
            Rpc::ModelInfer
            | Rpc::ModelReady
            | Rpc::ModelMetadata
            | Rpc::ModelConfig
            | Rpc::ModelStatistics
            | Rpc::ModelStreamInfer => Ok(Decision::Forward(Named::InMessage, kind)),
            Rpc::ServerLive => {
                let message = proto::ServerLiveResponse { live: true };
                Ok(Decision::Answer(Box::new(message_answer(grpc::encode_frame(
                    &message,
                )))))
            }
            Rpc::ServerReady => {
                let message = proto::ServerReadyResponse { ready: self.ready() };
                Ok(Decision::Answer(Box::new(message_answer(grpc::encode_frame(
                    &message,
                )))))
            }
            Rpc::ServerMetadata => {
                let message = proto::ServerMetadataResponse {
                    name: self.name.clone(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    extensions: EXTENSIONS.map(ToOwned::to_owned).into(),
                };
                Ok(Decision::Answer(Box::new(message_answer(grpc::encode_frame(
                    &message,
                )))))
            }
            Rpc::HealthCheck => Ok(Decision::CheckHealth),
            Rpc::HealthList | Rpc::HealthWatch => not_served("health except Check"),
            Rpc::RepositoryIndex | Rpc::RepositoryModelLoad | Rpc::RepositoryModelUnload => {
                not_served("the model repository")
            }
            Rpc::TraceSetting
            | Rpc::LogSettings
            | Rpc::SystemSharedMemoryStatus
            | Rpc::SystemSharedMemoryRegister
            | Rpc::SystemSharedMemoryUnregister
            | Rpc::CudaSharedMemoryStatus
            | Rpc::CudaSharedMemoryRegister
            | Rpc::CudaSharedMemoryUnregister => not_served("traces, logging and shared memory"),
            Rpc::Reflection | Rpc::ReflectionAlpha => not_served("reflection"),
        }
    }

    fn ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// `grpc.health.v1.Health/Check`: of the gateway, or of the inference service that it forwards.
    async fn check_health(&self, mut call: Call) -> Result<Response<WholeBody>, GatewayError> {
        let message = first_message(&mut call).await?;
        // The message's one field has the number of `model_name`.
        let service = match grpc::peek_model(&message) {
            Peek::Found { name, .. } => name,
            Peek::NeedMore => "",
            Peek::Unreadable => {
                return Err(GatewayError::Malformed {
                    reason: "the message is not a HealthCheckRequest",
                });
            }
        };
        if !matches!(service, "" | "inference.GRPCInferenceService") {
            return Err(GatewayError::UnknownService {
                service: service.into(),
            });
        }
        let status = if self.ready() {
            health::health_check_response::ServingStatus::Serving
        } else {
            health::health_check_response::ServingStatus::NotServing
        };
        let message = health::HealthCheckResponse {
            status: status.into(),
        };
        Ok(message_answer(grpc::encode_frame(&message)))
    }
}

fn kind(method: &Method, endpoint: &Endpoint) -> Kind {
    match endpoint {
        Endpoint::Infer(_)
        | Endpoint::V1Predict(_)
        | Endpoint::V1Explain(_)
        | Endpoint::Grpc(Rpc::ModelInfer) => Kind::Infer,
        Endpoint::V1Label { .. } if method == Method::POST => Kind::Infer,
        Endpoint::Grpc(Rpc::ModelStreamInfer | Rpc::HealthWatch | Rpc::Reflection | Rpc::ReflectionAlpha) => {
            Kind::Stream
        }
        _ => Kind::Read,
    }
}

/// Whether it shows or changes what one server has for itself. Through a gateway it would reach one replica of several,
/// and the next request another.
fn is_about_one_server(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::RepositoryIndex { .. }
        | Endpoint::RepositoryLoad { .. }
        | Endpoint::RepositoryUnload { .. }
        | Endpoint::TraceSetting { .. }
        | Endpoint::Logging(_)
        | Endpoint::SharedMemory { .. } => true,
        Endpoint::Grpc(rpc) => !matches!(
            rpc,
            Rpc::ModelInfer
                | Rpc::ModelStreamInfer
                | Rpc::ModelReady
                | Rpc::ModelMetadata
                | Rpc::ModelConfig
                | Rpc::ModelStatistics
                | Rpc::ServerLive
                | Rpc::ServerReady
                | Rpc::ServerMetadata
                | Rpc::HealthCheck
                | Rpc::HealthList
                | Rpc::HealthWatch
                | Rpc::Reflection
                | Rpc::ReflectionAlpha
        ),
        _ => false,
    }
}

/// What load balancers and kubelets ask, who have no credentials.
fn is_health(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::V1Alive
            | Endpoint::ServerLive
            | Endpoint::ServerReady
            | Endpoint::Grpc(Rpc::ServerLive | Rpc::ServerReady | Rpc::HealthCheck)
    )
}

fn not_served(what: &'static str) -> Result<Decision, GatewayError> {
    Err(GatewayError::NotServedHere { what })
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of a match whose others can fail")]
fn answer(status: StatusCode, body: Bytes) -> Result<Decision, GatewayError> {
    let mut response = Response::new(WholeBody::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(rest::JSON));
    Ok(Decision::Answer(Box::new(response)))
}

fn message_answer(frame: Bytes) -> Response<WholeBody> {
    let mut trailers = HeaderMap::new();
    write_grpc_status(&mut trailers, GrpcCode::Ok, "");
    let mut response = Response::new(WholeBody::with_trailers(frame, trailers));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    response
}
