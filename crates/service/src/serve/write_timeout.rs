//! Ends a connection whose client takes nothing that is written to it.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may take nothing, and how often one has.
#[derive(Clone, Debug)]
pub(super) struct WriteTimeout {
    pub(super) timeout: Duration,
    pub(super) ended: IntCounter,
}

pin_project! {
    /// A socket on which a write that waits for longer fails. Every byte that the kernel takes is progress; a write that
    /// need not wait costs one branch.
    pub(super) struct TimedWrites<T> {
        #[pin]
        io: T,
        write_timeout: WriteTimeout,
        // Made with the first wait; left in the wheel when the wait is over.
        timer: Option<Pin<Box<Sleep>>>,
        waits: bool,
    }
}

impl<T> TimedWrites<T> {
    pub(super) fn new(io: T, write_timeout: WriteTimeout) -> Self {
        Self {
            io,
            write_timeout,
            timer: None,
            waits: false,
        }
    }
}

impl<T> TimedWrites<T> {
    fn timed<R>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        written: Poll<Result<R>>,
    ) -> Poll<Result<R>> {
        let this = self.project();
        if written.is_ready() {
            *this.waits = false;
            return written;
        }
        let after = this.write_timeout.timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(after)));
        if !std::mem::replace(this.waits, true) {
            timer.as_mut().reset(Instant::now() + after);
        }
        ready!(timer.as_mut().poll(context));
        this.write_timeout.ended.inc();
        // Whoever tries once more, as TLS does to say that it closes, is to wait anew.
        *this.waits = false;
        let message = format!("the client took nothing for {after:?}");
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, message)))
    }
}

impl<T: AsyncRead> AsyncRead for TimedWrites<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.project().io.poll_read(context, buffer)
    }
}

impl<T: AsyncWrite> AsyncWrite for TimedWrites<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = self.as_mut().project().io.poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = self.as_mut().project().io.poll_write_vectored(context, slices);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    // A socket's flush and shutdown do not wait.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.project().io.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.project().io.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn timed(
        capacity: usize,
    ) -> (
        tokio::io::DuplexStream,
        TimedWrites<tokio::io::DuplexStream>,
        IntCounter,
    ) {
        let (client, server) = tokio::io::duplex(capacity);
        let ended = IntCounter::new("ended_total", "Ended.").expect("a valid name");
        let write_timeout = WriteTimeout {
            timeout: Duration::from_mins(1),
            ended: ended.clone(),
        };
        (client, TimedWrites::new(server, write_timeout), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_on() {
        let (_client, mut server, ended) = timed(10);
        let started = Instant::now();
        let error = server.write_all(&[0; 11]).await.expect_err("one byte too many");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!((started.elapsed(), ended.get()), (Duration::from_mins(1), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn every_byte_taken_is_progress() {
        let (mut client, mut server, ended) = timed(1);
        let reading = tokio::spawn(async move {
            for _ in 0..10 {
                sleep(Duration::from_secs(59)).await;
                client.read_u8().await.expect("a byte");
            }
        });
        server.write_all(&[0; 10]).await.expect("taken slowly");
        // Between writes nothing is waited for.
        sleep(Duration::from_hours(1)).await;
        reading.await.expect("all read");
        assert_eq!(ended.get(), 0);
    }
}
