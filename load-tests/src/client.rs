//! A connection to a server, made again when it ends: HTTP/1.1 or HTTP/2, plain or TLS.

mod http1;
mod http2;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use self::http1::Http1;
use self::http2::Http2;
pub use self::tls::{Trust, config as tls_config};
use crate::request::Request;
use crate::tally::Fault;

/// One whole answer; borrows the connection that read it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// HTTP's status.
    pub status: u16,
    /// gRPC's, if there is one.
    pub grpc_status: Option<u16>,
    /// Whether it says when to come back.
    pub retry_after: bool,
    /// Bytes of the JSON part of a body with binary tensors.
    pub json_length: Option<usize>,
    /// The whole body.
    pub body: &'a [u8],
}

/// The version of HTTP that is spoken; no negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1, kept alive.
    One,
    /// HTTP/2 with prior knowledge, or by ALPN under TLS.
    Two,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Which HTTP.
    pub http: Http,
    /// TLS and the name that the server's certificate must have.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Transport {
    /// Without TLS.
    pub fn plain(http: Http) -> Self {
        Self { http, tls: None }
    }
}

/// Where requests go; can change while a load runs, as a service's endpoints do.
#[derive(Debug)]
pub struct Targets {
    addresses: Mutex<Vec<SocketAddr>>,
    generation: AtomicU64,
}

impl Targets {
    /// Connections are spread over `addresses` evenly.
    pub fn new(addresses: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            addresses: Mutex::new(addresses),
            generation: AtomicU64::new(0),
        })
    }

    /// From now on requests go here: a connection to an address that is no longer named is left before its next request.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The address of connection `index`, and the generation that it is of.
    fn of(&self, index: usize) -> Option<(SocketAddr, u64)> {
        let generation = self.generation.load(Ordering::Acquire);
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        (!addresses.is_empty()).then(|| (addresses[index % addresses.len()], generation))
    }
}

type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A connection that is made when it is first needed, and again when it has ended.
#[derive(Debug)]
pub struct Client {
    targets: Arc<Targets>,
    transport: Transport,
    index: usize,
    open: Option<Open>,
    /// Connections made.
    made: u64,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    generation: u64,
    http: Connected,
}

#[derive(Debug)]
enum Connected {
    One(Box<Http1<Stream>>),
    Two(Http2),
}

impl Client {
    /// The connection number `index` of a load; nothing is opened yet.
    pub fn new(targets: Arc<Targets>, transport: Transport, index: usize) -> Self {
        Self {
            targets,
            transport,
            index,
            open: None,
            made: 0,
        }
    }

    /// Connections made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Makes the connection unless it is there and still good.
    ///
    /// # Errors
    /// [`Fault::Connect`].
    pub async fn connect(&mut self) -> Result<(), Fault> {
        if self.still_good().await {
            return Ok(());
        }
        self.open = None;
        let (address, generation) = self.targets.of(self.index).ok_or(Fault::Connect)?;
        let tcp = TcpStream::connect(address).await.map_err(|_| Fault::Connect)?;
        tcp.set_nodelay(true).map_err(|_| Fault::Connect)?;
        let stream = match &self.transport.tls {
            None => Either::Left(tcp),
            Some((config, name)) => Either::Right(
                TlsConnector::from(Arc::clone(config))
                    .connect(name.clone(), tcp)
                    .await
                    .map_err(|_| Fault::Connect)?,
            ),
        };
        let http = match self.transport.http {
            Http::One => Connected::One(Box::new(Http1::new(stream))),
            Http::Two => Connected::Two(Http2::handshake(stream).await?),
        };
        self.made += 1;
        self.open = Some(Open {
            address,
            generation,
            http,
        });
        Ok(())
    }

    /// Whether the connection leads where requests go now, and the server has not left it.
    async fn still_good(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        if open.generation != self.targets.generation.load(Ordering::Acquire) {
            match self.targets.of(self.index) {
                Some((address, generation)) if address == open.address => open.generation = generation,
                _ => return false,
            }
        }
        match &mut open.http {
            // Costs a system call only when something came: an answer to nothing, or the end.
            Connected::One(http) => match &http.stream {
                Either::Left(tcp) => {
                    matches!(tcp.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                }
                Either::Right(_) => true,
            },
            Connected::Two(http) => http.is_open().await,
        }
    }

    /// Sends `request` and gives its whole answer to `judge`.
    ///
    /// # Errors
    /// [`Fault`]: no connection, no answer, or no proper one.
    pub async fn call<T>(
        &mut self,
        request: &Request,
        judge: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<T, Fault> {
        self.connect().await?;
        let open = self.open.as_mut().ok_or(Fault::Connect)?;
        let result = match &mut open.http {
            Connected::One(http) => http
                .call(&request.http1)
                .await
                .map(|(answer, closes)| (judge(&answer), closes)),
            Connected::Two(http) => http.call(request).await.map(|answer| (judge(&answer), false)),
        };
        match result {
            Ok((judged, closes)) => {
                if closes {
                    self.open = None;
                }
                Ok(judged)
            }
            Err(fault) => {
                self.open = None;
                Err(fault)
            }
        }
    }
}

/// One request on a connection of its own, for what is asked once: status and body.
///
/// # Errors
/// When there is no answer.
pub async fn once(
    address: SocketAddr,
    transport: &Transport,
    request: &Request,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut client = Client::new(Targets::new(vec![address]), transport.clone(), 0);
    client
        .call(request, |answer| (answer.status, answer.body.to_vec()))
        .await
        .with_context(|| {
            format!(
                "{} {} at {address}",
                request.http2.method(),
                request.http2.uri().path()
            )
        })
}

/// As [`once`], for programs that have no runtime of their own.
///
/// # Errors
/// When there is no answer.
pub fn once_blocking(
    address: SocketAddr,
    transport: &Transport,
    request: &Request,
) -> anyhow::Result<(u16, Vec<u8>)> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(once(address, transport, request))
}

#[cfg(test)]
mod tests;
