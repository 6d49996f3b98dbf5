//! Finds the route of a call: of its host, which `answer_server` has looked up, or of the model that it names.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Response};
use http_body::Body as _;
use pin_project_lite::pin_project;
use plumbline_inference_protocol::grpc::{self, Peek};
use tokio::time::Instant;
use tower::{Layer, Service, layer::layer_fn};

use crate::access::{Access, Verb};
use crate::call::Call;
use crate::error::GatewayError;
use crate::layers::answer_server::{ModelCall, Named};
use crate::layers::{BoxFuture, Decided};
use crate::route::Route;
use crate::snapshot::Routes;

/// The longest prefix of a gRPC body in which the model's name is looked for. Serializers write it first; 64 KiB is
/// what a client may send before it hears that the window is open.
const MAX_PEEK_BYTES: usize = 64 << 10;
/// Time for the first message of a client that sets no deadline: a client that sends a head and then nothing must not
/// hold a place for long.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the model's name, in the path or in the first message, and its route in the current snapshot.
#[derive(Clone, Debug)]
pub(crate) struct ResolveModel<S> {
    inner: S,
    routes: Arc<Routes>,
    access: Arc<Access>,
}

/// A call with its route.
#[derive(Debug)]
pub(crate) struct RoutedCall {
    pub(crate) call: Call,
    pub(crate) route: Arc<Route>,
    pub(crate) kind: Kind,
}

/// What a call asks of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something about it.
    Read,
    /// A prediction.
    Infer,
    /// It may go on for long: the default deadline is not for it.
    Stream,
}

impl Kind {
    /// What has to be allowed.
    pub(crate) const fn verb(self) -> Verb {
        match self {
            Self::Read => Verb::Metadata,
            Self::Infer | Self::Stream => Verb::Infer,
        }
    }
}

/// Names the model of a gRPC call whose first message does not tell it: compressed, or with the name far behind.
const MODEL: HeaderName = HeaderName::from_static("x-plumbline-model");

pub(crate) fn layer<S>(
    routes: Arc<Routes>,
    access: Arc<Access>,
) -> impl Layer<S, Service = ResolveModel<S>> + Clone {
    layer_fn(move |inner| ResolveModel {
        inner,
        routes: Arc::clone(&routes),
        access: Arc::clone(&access),
    })
}

impl<S, B> Service<ModelCall> for ResolveModel<S>
where
    S: Service<RoutedCall, Response = Response<B>, Error = GatewayError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = GatewayError;
    type Future = Decided<Result<S::Response, GatewayError>, Resolved<S, B>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, ModelCall { call, named, kind }: ModelCall) -> Self::Future {
        let routed = match named {
            Named::ByHost(route) => admitted(call, route, kind),
            Named::InPath(model) => self.routed(call, &model, kind),
            Named::InMessage => {
                let service = self.clone();
                return Decided::Inner {
                    future: Resolved::InMessage {
                        future: Box::pin(service.read_and_route(call, kind)),
                    },
                };
            }
        };
        match routed {
            Ok(routed) => Decided::Inner {
                future: Resolved::InHead {
                    future: self.inner.call(routed),
                },
            },
            Err(error) => Decided::now(Err(error)),
        }
    }
}

pin_project! {
    /// What the head tells is known at once; one in the first message has to be waited for.
    #[project = ResolvedProjection]
    pub(crate) enum Resolved<S, B>
    where
        S: Service<RoutedCall>,
    {
        InHead { #[pin] future: S::Future },
        InMessage { future: BoxFuture<Result<Response<B>, GatewayError>> },
    }
}

impl<S, B> Future for Resolved<S, B>
where
    S: Service<RoutedCall, Response = Response<B>, Error = GatewayError>,
{
    type Output = Result<Response<B>, GatewayError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ResolvedProjection::InHead { future } => future.poll(context),
            ResolvedProjection::InMessage { future } => future.as_mut().poll(context),
        }
    }
}

impl<S, B> ResolveModel<S>
where
    S: Service<RoutedCall, Response = Response<B>, Error = GatewayError>,
{
    async fn read_and_route(mut self, mut call: Call, kind: Kind) -> Result<Response<B>, GatewayError> {
        let prefix = first_message(&mut call).await?;
        let named = match grpc::peek_model(&prefix) {
            Peek::Found { name, .. } => Ok(name),
            Peek::Unreadable if prefix.first() == Some(&1) => Err(GatewayError::CompressedMessage),
            Peek::Unreadable | Peek::NeedMore => Err(GatewayError::UnreadableMessage {
                limit: MAX_PEEK_BYTES,
            }),
        };
        let header = call.request.headers().get(MODEL).cloned();
        let header = header
            .as_ref()
            .and_then(|name| std::str::from_utf8(name.as_bytes()).ok());
        let model = match (named, header) {
            (Ok("") | Err(_), Some(header)) => header,
            (named, _) => named?,
        };
        let routed = self.routed(call, model, kind)?;
        self.inner.call(routed).await
    }
}

impl<S> ResolveModel<S> {
    /// Reads the snapshot for a call that no host has decided.
    fn routed(&self, call: Call, model: &str, kind: Kind) -> Result<RoutedCall, GatewayError> {
        let route = self.routes.load().route(model).map(Arc::clone);
        let Some(route) = route else {
            let _set_once = call.ledger.model.set(Arc::clone(&self.routes.unknown));
            // Which models there are is not for those who may not have them.
            self.access.authorize(&call, model)?;
            return Err(GatewayError::UnknownModel { model: model.into() });
        };
        admitted(call, route, kind)
    }
}

/// Gives a call its route's limits, of which one may be broken already.
fn admitted(call: Call, route: Arc<Route>, kind: Kind) -> Result<RoutedCall, GatewayError> {
    let _set_once = call.ledger.model.set(Arc::clone(&route.metrics));
    let limit = route.spec.max_body.0;
    call.ledger.set_limit(limit);
    if call.request.body().size_hint().lower() > limit && kind != Kind::Stream {
        return Err(GatewayError::BodyTooLarge { limit });
    }
    Ok(RoutedCall { call, route, kind })
}

/// The beginning of a call's body, up to where its model is known; the body will give it on as if it were unread.
pub(crate) async fn first_message(call: &mut Call) -> Result<Bytes, GatewayError> {
    let timeout = call.client_timeout.unwrap_or(FIRST_MESSAGE_TIMEOUT);
    let began = Instant::now();
    let read = tokio::time::timeout_at(call.ledger.arrived + timeout, read_prefix(call)).await;
    call.ledger.add_wait(began.elapsed());
    read.unwrap_or(Err(GatewayError::DeadlineExceeded { after: timeout }))
}

async fn read_prefix(call: &mut Call) -> Result<Bytes, GatewayError> {
    let body = call.request.body_mut();
    let mut prefix = Bytes::new();
    loop {
        let Ok(frame) = body.peek_frame().await else {
            let fault = call.ledger.body_fault();
            return Err(fault.unwrap_or(GatewayError::BodyIncomplete));
        };
        let Some(data) = frame else { return Ok(prefix) };
        if data.is_empty() {
            continue;
        }
        body.give_back(data.clone());
        // Nearly always the first frame has it all, and nothing is copied.
        prefix = if prefix.is_empty() {
            data
        } else {
            let mut longer = BytesMut::with_capacity(prefix.len() + data.len());
            longer.extend_from_slice(&prefix);
            longer.extend_from_slice(&data);
            longer.freeze()
        };
        if prefix.len() >= MAX_PEEK_BYTES || !matches!(grpc::peek_model(&prefix), Peek::NeedMore) {
            return Ok(prefix);
        }
    }
}
