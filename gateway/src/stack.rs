//! The request path: one expression, read from the outside in.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use plumbline_service::traces::Tracer;
use tower::{Service, ServiceBuilder};

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::body::BoxError;
use crate::call::Call;
use crate::config::{CorsSpec, HeadLimits};
use crate::forward::Forward;
use crate::layers::answer_server::Server;
use crate::layers::{
    answer_server, authenticate, authorize, check_head, deadline, identify, limit_concurrency, limit_rate,
    record, resolve_model, respond_to_errors, speak_cors, speak_grpc_web,
};
use crate::metrics::Metrics;

/// What the layers are built from.
pub(crate) struct Parts {
    pub(crate) server: Arc<Server>,
    pub(crate) metrics: Metrics,
    pub(crate) access: Arc<Access>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
    pub(crate) server_timing: bool,
    pub(crate) head: HeadLimits,
    pub(crate) max_in_flight: NonZeroUsize,
    pub(crate) trust_forwarded: bool,
    pub(crate) tracer: Tracer,
    pub(crate) cors: Option<CorsSpec>,
}

/// Built once and cloned for each connection, so that limits are shared.
pub(crate) fn build(
    parts: &Parts,
) -> impl Service<
    Call,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let Parts {
        server,
        metrics,
        access,
        access_log,
        server_timing,
        head,
        max_in_flight,
        trust_forwarded,
        tracer,
        cors,
    } = parts;
    let routes = &server.routes;
    ServiceBuilder::new()
        // Outermost: the layers below see gRPC with its trailers, whatever the client can read.
        .layer(speak_grpc_web::layer())
        // Above all that answers: every answer carries the request's id, also those that the layers below give themselves.
        .layer(identify::layer(*trust_forwarded, tracer.clone()))
        // Above the rescue below, so that refusals are counted too.
        .layer(record::layer(Arc::clone(&routes.server), access_log.clone(), *server_timing))
        // Above the rescue, so that pages can read refusals too, and above authentication, as a preflight has no credential.
        .layer(speak_cors::layer(cors.as_ref()))
        .layer(respond_to_errors::layer())
        // Before anything acts on the head: the layers below may rely on it, and on the client's deadline.
        .layer(check_head::layer(*head))
        // Below the head's check, so that a credential is what it seems; above everything that depends on who asks.
        .layer(authenticate::layer(Arc::clone(access)))
        // Above the limit: a full gateway is still live, and ready to say so.
        .layer(answer_server::layer(Arc::clone(server)))
        // Above everything that reads a body: a refusal costs one head.
        .layer(limit_concurrency::layer(
            *max_in_flight,
            metrics.in_flight.clone(),
            metrics.shed_max_in_flight.clone(),
        ))
        // The route is known from here on.
        .layer(resolve_model::layer(Arc::clone(routes), Arc::clone(access)))
        // Below the route: policy and limits are about the model that the request goes to, whatever it was called.
        .layer(authorize::layer(Arc::clone(access)))
        // What is not allowed uses up nothing.
        .layer(limit_rate::layer(Arc::clone(access)))
        // Below the route, which has the default; time is measured from the request's arrival all the same.
        .layer(deadline::layer())
        .service(Forward {
            routes: Arc::clone(routes),
        })
}
