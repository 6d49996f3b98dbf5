//! Bodies of replies: whole ones, and streams of gRPC messages.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use plumbline_inference_protocol::ProtocolError;
use plumbline_service::WholeBody;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::reply;

/// Body of a reply.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Known from the start.
    Whole(WholeBody),
    /// Messages of a streaming RPC as they come, then its status.
    Stream(Messages),
}

impl From<WholeBody> for ReplyBody {
    fn from(body: WholeBody) -> ReplyBody {
        ReplyBody::Whole(body)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            ReplyBody::Whole(body) => Pin::new(body).poll_frame(context),
            ReplyBody::Stream(messages) => messages.poll_frame(context).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(body) => body.is_end_stream(),
            ReplyBody::Stream(messages) => messages.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(body) => body.size_hint(),
            ReplyBody::Stream(_) => SizeHint::default(),
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Owned<T>(JoinHandle<T>);

impl<T: Send + 'static> Owned<T> {
    /// Spawns `work`; dropping the owner aborts it.
    pub(crate) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Owned<T> {
        Owned(tokio::spawn(work))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a streaming reply consists of.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message with its prefix.
    Message(Bytes),
    /// A message that is still being made; those after it wait for it.
    Coming(Owned<Bytes>),
    /// The end, with an error. The end of the channel is the end with success.
    Failed(ProtocolError),
}

/// Messages in the order in which their producer sends them. Dropping it, as when the client cancels, ends the producer
/// and everything that it has begun.
#[derive(Debug)]
pub(crate) struct Messages {
    items: mpsc::Receiver<Item>,
    coming: Option<Owned<Bytes>>,
    producer: Owned<()>,
    ended: bool,
}

impl Messages {
    /// A stream that `producer` feeds; it may be `ahead` messages ahead of what the client has read.
    pub(crate) fn produced_by<F>(ahead: usize, producer: impl FnOnce(mpsc::Sender<Item>) -> F) -> Messages
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(ahead);
        Messages {
            items,
            coming: None,
            producer: Owned::spawn(producer(sender)),
            ended: false,
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(coming) = &mut self.coming {
                let message = ready!(Pin::new(&mut coming.0).poll(context));
                self.coming = None;
                return Poll::Ready(Some(match message {
                    Ok(message) => Frame::data(message),
                    Err(_panicked) => self.end(Some(&ProtocolError::Internal)),
                }));
            }
            match ready!(self.items.poll_recv(context)) {
                Some(Item::Message(message)) => return Poll::Ready(Some(Frame::data(message))),
                Some(Item::Coming(coming)) => self.coming = Some(coming),
                Some(Item::Failed(error)) => return Poll::Ready(Some(self.end(Some(&error)))),
                None => {
                    let outcome = ready!(Pin::new(&mut self.producer.0).poll(context));
                    // One that panicked has not said all that it had to.
                    let error = outcome.err().map(|_panicked| ProtocolError::Internal);
                    return Poll::Ready(Some(self.end(error.as_ref())));
                }
            }
        }
    }

    fn end(&mut self, error: Option<&ProtocolError>) -> Frame<Bytes> {
        self.ended = true;
        let mut trailers = HeaderMap::with_capacity(2);
        reply::put_status(&mut trailers, error);
        Frame::trailers(trailers)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    use super::*;

    async fn read(messages: Messages) -> (Bytes, HeaderMap) {
        let collected = ReplyBody::Stream(messages).collect().await.expect("infallible");
        let trailers = collected.trailers().cloned().expect("a status");
        (collected.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn messages_keep_their_order_whichever_is_made_first() {
        let (release, released) = oneshot::channel::<()>();
        let messages = Messages::produced_by(4, |out| async move {
            let slow = async move {
                released.await.expect("released");
                Bytes::from_static(b"1")
            };
            let quick = async move {
                release.send(()).expect("awaited");
                Bytes::from_static(b"2")
            };
            for item in [
                Item::Coming(Owned::spawn(slow)),
                Item::Coming(Owned::spawn(quick)),
                Item::Message("3".into()),
            ] {
                out.send(item).await.expect("read");
            }
        });
        let (data, trailers) = read(messages).await;
        assert_eq!(
            (&data[..], trailers["grpc-status"].as_bytes()),
            (&b"123"[..], &b"0"[..])
        );
    }

    #[tokio::test]
    async fn an_error_or_a_panic_is_told_in_the_trailers() {
        let failing = Messages::produced_by(1, |out| async move {
            out.send(Item::Message("1".into())).await.expect("read");
            out.send(Item::Failed(ProtocolError::Draining))
                .await
                .expect("read");
        });
        let (data, trailers) = read(failing).await;
        assert_eq!(
            (&data[..], trailers["grpc-status"].as_bytes()),
            (&b"1"[..], &b"14"[..])
        );
        let panicking = Messages::produced_by(1, |_out| async move { panic!("a mistake") });
        assert_eq!(read(panicking).await.1["grpc-status"], "13");
        let coming = Messages::produced_by(1, |out| async move {
            let panicking = Owned::spawn(async { panic!("a mistake") });
            out.send(Item::Coming(panicking)).await.expect("read");
        });
        assert_eq!(read(coming).await.1["grpc-status"], "13");
    }

    #[tokio::test]
    async fn dropping_the_body_ends_its_tasks() {
        let (ended, has_ended) = oneshot::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let messages = Messages::produced_by(1, |out| async move {
            let never = Owned::spawn(async move {
                let _ended = ended;
                begun.send(()).expect("awaited");
                std::future::pending().await
            });
            out.send(Item::Coming(never)).await.expect("room");
            std::future::pending::<()>().await;
        });
        has_begun.await.expect("begun");
        drop(messages);
        assert!(has_ended.await.is_err(), "the sender was dropped, not used");
    }
}
