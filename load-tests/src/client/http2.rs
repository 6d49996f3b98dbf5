//! One HTTP/2 connection with one call in flight.

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Answer;
use crate::request::Request;
use crate::tally::Fault;

/// Flow-control windows that no answer here fills.
const WINDOW: u32 = 16 << 20;

/// An open connection and the body that it last read.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    /// Moves frames; ends with the connection, or with its client.
    driver: tokio::task::JoinHandle<()>,
    body: Vec<u8>,
}

impl Http2 {
    pub(super) async fn handshake<S>(stream: S) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|_| Fault::Connect)?;
        let driver = tokio::spawn(async move {
            // The calls learn of its end.
            let _lost = connection.await;
        });
        Ok(Self {
            sender,
            driver,
            body: Vec::new(),
        })
    }

    /// Whether the connection takes another call: false after GOAWAY.
    pub(super) async fn is_open(&mut self) -> bool {
        std::future::poll_fn(|context| self.sender.poll_ready(context))
            .await
            .is_ok()
    }

    pub(super) async fn call(&mut self, request: &Request) -> Result<Answer<'_>, Fault> {
        let lost = |_: h2::Error| Fault::Lost;
        let (response, mut sending) = self
            .sender
            .send_request(request.http2.clone(), false)
            .map_err(lost)?;
        sending.send_data(request.body.clone(), true).map_err(lost)?;
        let (head, mut receiving) = response.await.map_err(lost)?.into_parts();
        self.body.clear();
        while let Some(data) = receiving.data().await {
            let data = data.map_err(lost)?;
            let _within_the_window = receiving.flow_control().release_capacity(data.len());
            self.body.extend_from_slice(&data);
        }
        let trailers = receiving.trailers().await.map_err(lost)?;
        let number = |headers: &http::HeaderMap, name: &str| -> Option<usize> {
            headers.get(name)?.to_str().ok()?.parse().ok()
        };
        // An error without a message has its status in the head.
        let grpc_status = trailers
            .as_ref()
            .and_then(|trailers| number(trailers, "grpc-status"))
            .or_else(|| number(&head.headers, "grpc-status"));
        Ok(Answer {
            status: head.status.as_u16(),
            grpc_status: grpc_status.map(|status| status as u16),
            retry_after: head.headers.contains_key("retry-after")
                || trailers.is_some_and(|trailers| {
                    trailers.contains_key("retry-after") || trailers.contains_key("grpc-retry-pushback-ms")
                }),
            json_length: number(&head.headers, "inference-header-content-length"),
            body: &self.body,
        })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
