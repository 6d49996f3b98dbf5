//! Why an endpoint gave no answer.

use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::Target;

/// An endpoint that gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, no such name.
    #[error("cannot connect to {target}")]
    Connect {
        /// Where to.
        target: Target,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// No connection in time.
    #[error("cannot connect to {target} within {timeout:?}")]
    ConnectTimeout {
        /// Where to.
        target: Target,
        /// How long it was tried.
        timeout: Duration,
    },
    /// Connected, and not HTTP of the version that was asked for.
    #[error("{target} does not speak HTTP as expected")]
    Handshake {
        /// Who.
        target: Target,
        /// What was wrong.
        source: Arc<hyper::Error>,
    },
    /// The connection closed, or the stream was reset, before an answer.
    #[error("{target} closed before it answered")]
    Closed {
        /// Who.
        target: Target,
        /// Whether the connection had carried requests before.
        reused: bool,
        /// What was seen.
        source: Arc<hyper::Error>,
    },
    /// An answer that is not HTTP, or larger than allowed.
    #[error("{target} answered with something that is not valid HTTP")]
    InvalidAnswer {
        /// Who.
        target: Target,
        /// What was wrong with it.
        source: Arc<hyper::Error>,
    },
    /// The request's own body ended with an error: the client's fault or departure, not the endpoint's.
    #[error("the request's body ended early")]
    RequestBody {
        /// What the body said.
        source: Arc<hyper::Error>,
    },
}

impl UpstreamError {
    pub(super) fn exchange(target: &Target, error: hyper::Error, reused: bool) -> Self {
        let (target, source) = (target.clone(), Arc::new(error));
        if source.is_user() {
            Self::RequestBody { source }
        } else if source.is_parse() || source.is_parse_too_large() {
            Self::InvalidAnswer { target, source }
        } else {
            Self::Closed {
                target,
                reused,
                source,
            }
        }
    }

    /// Whether the endpoint has not processed the request, although bytes of it were sent: an HTTP/2 stream that it
    /// refused, or one that its GOAWAY leaves out (RFC 9113 §6.8, §8.7).
    pub fn is_unprocessed(&self) -> bool {
        let Self::Closed { source, .. } = self else {
            return false;
        };
        let mut cause = std::error::Error::source(source);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                let reason = error.reason();
                return error.is_remote()
                    && (reason == Some(h2::Reason::REFUSED_STREAM)
                        || (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)));
            }
            cause = error.source();
        }
        false
    }

    /// Whether no connection was made, so that the endpoint may be down.
    pub fn is_connect(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Handshake { .. } => true,
            Self::Closed { .. } | Self::InvalidAnswer { .. } | Self::RequestBody { .. } => false,
        }
    }
}

/// A request that was not answered, given back when nothing of it was sent.
#[derive(Debug)]
pub struct SendError<B> {
    /// Why.
    pub error: UpstreamError,
    /// The request, in the form for its protocol, if and only if no byte of it was sent.
    pub unsent: Option<Request<B>>,
}

impl<B> SendError<B> {
    pub(super) fn unsent(error: UpstreamError, request: Request<B>) -> Self {
        let unsent = Some(request);
        Self { error, unsent }
    }
}

impl<B> std::fmt::Display for SendError<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<B: std::fmt::Debug> std::error::Error for SendError<B> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
