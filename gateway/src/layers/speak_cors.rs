//! Lets browsers' pages of other origins ask, as far as the configuration allows (Fetch standard, CORS protocol).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode};
use http_body_util::Either;
use pin_project_lite::pin_project;
use plumbline_service::WholeBody;
use tower::{Layer, Service, layer::layer_fn};

use crate::call::Call;
use crate::config::CorsSpec;

/// Those of the protocols.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

/// Of an answer, what pages could not read otherwise.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "grpc-message, grpc-status, grpc-status-details-bin, inference-header-content-length, ratelimit, \
     ratelimit-policy, retry-after, server-timing, x-request-id",
);

const VARIES: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");

/// What is allowed, as it is written.
#[derive(Debug)]
struct Allowed {
    origins: Option<Vec<HeaderValue>>,
    headers: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

impl Allowed {
    fn new(spec: &CorsSpec) -> Self {
        let headers: Vec<&str> = spec.headers.iter().map(HeaderName::as_str).collect();
        Self {
            origins: spec.origins.clone(),
            headers: HeaderValue::try_from(headers.join(", ")).expect("names are visible ASCII text"),
            credentials: spec.credentials,
            max_age: spec.max_age.as_secs().into(),
        }
    }

    /// What an answer to this origin says, if the origin is allowed.
    fn origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origins.iter().find(|known| *known == origin).cloned(),
        }
    }

    /// Whatever stands behind the gateway says about it is not heard: the configuration decides.
    fn write(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.credentials {
                let yes = HeaderValue::from_static("true");
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
            }
        }
    }

    fn preflight(&self, origin: Option<HeaderValue>) -> Response<WholeBody> {
        let mut response = Response::new(WholeBody::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(VARY, VARIES);
        if origin.is_some() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        self.write(origin, headers);
        response
    }

    fn answer(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        if origin.is_some() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        if self.origins.is_some() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        self.write(origin, headers);
    }
}

/// Answers the question that a browser asks before a request, and tells of every answer who may read it.
#[derive(Clone, Debug)]
pub(crate) struct SpeakCors<S> {
    inner: S,
    /// Nothing for pages of the gateway's own origin alone.
    allowed: Option<Arc<Allowed>>,
}

pub(crate) fn layer<S>(spec: Option<&CorsSpec>) -> impl Layer<S, Service = SpeakCors<S>> + Clone {
    let allowed = spec.map(|spec| Arc::new(Allowed::new(spec)));
    layer_fn(move |inner| SpeakCors {
        inner,
        allowed: allowed.clone(),
    })
}

impl<S, B> Service<Call> for SpeakCors<S>
where
    S: Service<Call, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Either<WholeBody, B>>;
    type Error = Infallible;
    type Future = Spoken<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(allowed) = &self.allowed else {
            let (inner, cors) = (self.inner.call(call), None);
            return Spoken::Asked { inner, cors };
        };
        let headers = call.request.headers();
        let origin = headers.get(ORIGIN);
        let is_preflight = call.request.method() == Method::OPTIONS
            && origin.is_some()
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = origin.and_then(|origin| allowed.origin(origin));
        if is_preflight {
            let answer = Some(Box::new(allowed.preflight(origin)));
            return Spoken::Preflight { answer };
        }
        let cors = Some((Arc::clone(allowed), origin));
        let inner = self.inner.call(call);
        Spoken::Asked { inner, cors }
    }
}

pin_project! {
    /// An answer on its way.
    #[project = SpokenProjection]
    pub(crate) enum Spoken<F> {
        Preflight { answer: Option<Box<Response<WholeBody>>> },
        Asked {
            #[pin]
            inner: F,
            cors: Option<(Arc<Allowed>, Option<HeaderValue>)>,
        },
    }
}

impl<F, B> Future for Spoken<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<WholeBody, B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project() {
            SpokenProjection::Preflight { answer } => answer.take().expect("polled once").map(Either::Left),
            SpokenProjection::Asked { inner, cors } => {
                let Ok(mut response) = ready!(inner.poll(context));
                if let Some((allowed, origin)) = cors.take() {
                    allowed.answer(origin, response.headers_mut());
                }
                response.map(Either::Right)
            }
        };
        Poll::Ready(Ok(response))
    }
}
