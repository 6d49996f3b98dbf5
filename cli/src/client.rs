//! Requests to a server by URL, over HTTP/1.1 or HTTP/2 without TLS.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A server, from a URL such as `http://127.0.0.1:8080` or `http://host/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    host: String,
    port: u16,
    prefix: String,
}

/// A text that does not name a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseServerError {
    /// Not a URL with scheme and host.
    #[error("expected a URL such as http://127.0.0.1:8080")]
    NotAUrl,
    /// HTTPS or something else.
    #[error("only http:// is supported, got {0}://")]
    Scheme(String),
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot connect to {server}")]
    Connect { server: Server, source: std::io::Error },
    #[error("the connection to {server} broke")]
    Broken { server: Server, source: hyper::Error },
    #[error("no answer from {server} within {after:?}")]
    Timeout { server: Server, after: Duration },
}

impl ClientError {
    /// A short constant name, for counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "cannot connect",
            Self::Broken { .. } => "connection broke",
            Self::Timeout { .. } => "no answer in time",
        }
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Trailers of a gRPC call.
    pub(crate) trailers: HeaderMap,
}

impl std::str::FromStr for Server {
    type Err = ParseServerError;

    fn from_str(text: &str) -> Result<Self, ParseServerError> {
        let uri: Uri = text.parse().map_err(|_| ParseServerError::NotAUrl)?;
        let scheme = uri.scheme_str().ok_or(ParseServerError::NotAUrl)?;
        if scheme != "http" {
            return Err(ParseServerError::Scheme(scheme.to_owned()));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or(ParseServerError::NotAUrl)?;
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl From<std::net::SocketAddr> for Server {
    fn from(address: std::net::SocketAddr) -> Self {
        let host = if address.is_ipv6() {
            format!("[{}]", address.ip())
        } else {
            address.ip().to_string()
        };
        Self {
            host,
            port: address.port(),
            prefix: String::new(),
        }
    }
}

impl Server {
    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks once, on a connection of its own.
    pub(crate) async fn get(&self, path: &str, timeout: Duration) -> Result<Answer, ClientError> {
        let mut connection = Connection::new(self.clone(), Wire::Http1, timeout);
        connection
            .send(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await
    }
}

/// How to speak to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    /// With prior knowledge, as gRPC does.
    Http2,
}

/// One connection for one request at a time; opened when needed and again after it closed.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    wire: Wire,
    timeout: Duration,
    sender: Option<Sender>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// A connection that is not open yet. `timeout` is for each request, connecting included.
    pub(crate) fn new(server: Server, wire: Wire, timeout: Duration) -> Self {
        Self {
            server,
            wire,
            timeout,
            sender: None,
        }
    }

    /// Sends a request and reads the whole answer. Dropping the future closes an HTTP/1.1 connection.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let after = self.timeout;
        let answer = tokio::time::timeout(after, self.exchange(method, path, headers, body)).await;
        answer.unwrap_or_else(|_| {
            // An HTTP/1.1 connection with an answer on its way cannot carry another request.
            self.sender = None;
            Err(ClientError::Timeout {
                server: self.server.clone(),
                after,
            })
        })
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let (server, wire) = (self.server.clone(), self.wire);
        let broken = |source| ClientError::Broken {
            server: server.clone(),
            source,
        };
        let mut open = self.sender.take();
        // The server may have closed it since.
        if let Some(sender) = &mut open
            && !sender.is_ready().await
        {
            open = None;
        }
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::new(Full::new(body));
        let path = format!("{}{path}", self.server.prefix);
        let uri = match wire {
            Wire::Http1 => Uri::builder().path_and_query(path).build(),
            Wire::Http2 => Uri::builder()
                .scheme("http")
                .authority(self.server.authority())
                .path_and_query(path)
                .build(),
        };
        *request.method_mut() = method;
        *request.uri_mut() = uri.expect("callers encode the names that they put into a path");
        *request.headers_mut() = headers;
        if wire == Wire::Http1 {
            let host = self
                .server
                .authority()
                .parse()
                .expect("a host from a URL is a header value");
            request.headers_mut().insert(HOST, host);
        }
        let response = match &mut sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let (parts, body) = response.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?;
        self.sender = Some(sender);
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        })
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let server = || self.server.clone();
        let host = self.server.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.server.port)).await;
        let stream = stream.map_err(|source| ClientError::Connect {
            server: server(),
            source,
        })?;
        // A request is written whole; a latency measured here should not be that of an acknowledgement.
        let _best_effort = stream.set_nodelay(true);
        let broken = |source| ClientError::Broken {
            server: server(),
            source,
        };
        // A connection that ends is noticed through its sender.
        Ok(match self.wire {
            Wire::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Wire::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .map_err(broken)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        })
    }
}

impl Sender {
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }
}

/// Headers with a content type.
pub(crate) fn content_type(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(value))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_a_url() {
        let server = |text: &str| text.parse::<Server>().map(|server| server.to_string());
        assert_eq!(
            server("http://127.0.0.1:8080"),
            Ok("http://127.0.0.1:8080".to_owned())
        );
        assert_eq!(
            server("http://[::1]:81/churn/"),
            Ok("http://[::1]:81/churn".to_owned())
        );
        assert_eq!(server("http://models"), Ok("http://models:80".to_owned()));
        assert_eq!(
            server("https://models"),
            Err(ParseServerError::Scheme("https".to_owned()))
        );
        assert_eq!(server("127.0.0.1:8080"), Err(ParseServerError::NotAUrl));
        assert_eq!(server("models"), Err(ParseServerError::NotAUrl));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0))
            .and_then(|l| l.local_addr())
            .expect("a port");
        let error = Server::from(free)
            .get("/", Duration::from_secs(5))
            .await
            .expect_err("nobody listens");
        assert_eq!(error.to_string(), format!("cannot connect to http://{free}"));
    }
}
