//! A client and its answer to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use super::job::{Answer, Slot};
use super::queue::Key;
use super::{Deadline, Refusal, Runner, Shared};

/// A request that was taken on. Small: it is part of the future of every request, which is moved about.
pub(crate) enum Running<S: Runner> {
    /// Answered at once; `None` once that was told.
    Over(Option<Answer>),
    /// In a queue, a gather or a run.
    Waits(Waiting<S>),
    /// On several sessions.
    Split(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl<S: Runner> Running<S> {
    pub(super) fn over(answer: Answer) -> Running<S> {
        Running::Over(Some(answer))
    }
}

impl<S: Runner> Future for Running<S> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Running::Over(answer) => Poll::Ready(answer.take().expect("polled until it is ready")),
            Running::Waits(waiting) => Pin::new(waiting).poll(context),
            Running::Split(whole) => whole.as_mut().poll(context),
        }
    }
}

/// A client that waits. Dropped before its answer: its job leaves the queue, or its run is ended.
pub(crate) struct Waiting<S: Runner> {
    shared: Arc<Shared<S>>,
    slot: Arc<Slot>,
    key: Key,
    leads: Option<Leads>,
    deadline: Option<Deadline>,
    timer: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

/// The gather that a client has to run, once it has given way.
struct Leads {
    id: u64,
    giving_way: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Lets the thread come to all requests that are there.
async fn give_way() {
    // To those whose connections are known to be ready; then the thread asks which others are,
    tokio::task::yield_now().await;
    // and to these, too: tokio puts what has yielded before them.
    let mut has_come_back = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_come_back, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<S: Runner> Waiting<S> {
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        slot: Arc<Slot>,
        key: Key,
        deadline: Option<Deadline>,
    ) -> Waiting<S> {
        Waiting {
            shared,
            slot,
            key,
            leads: None,
            deadline,
            timer: None,
            is_over: false,
        }
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// It has gather `id` to run.
    pub(super) fn lead(&mut self, id: u64) {
        self.shared.appetite.look();
        let giving_way = Box::pin(give_way());
        self.leads = Some(Leads { id, giving_way });
    }

    /// Its job is nowhere any more.
    pub(super) fn withdraw(&mut self) {
        self.is_over = true;
    }
}

impl<S: Runner> Future for Waiting<S> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        // Pending, its gather may have been run by another thread all the same.
        if let Some(leads) = &mut this.leads
            && leads.giving_way.as_mut().poll(context).is_ready()
        {
            let id = leads.id;
            this.leads = None;
            this.shared.appetite.looked();
            this.shared.end_gather(id);
        }
        if let Poll::Ready(answer) = this.slot.poll(context) {
            this.is_over = true;
            return Poll::Ready(answer);
        }
        let Some(Deadline { at, after }) = this.deadline else {
            return Poll::Pending;
        };
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        ready!(timer.as_mut().poll(context));
        // What has begun is ended by the drop.
        Poll::Ready(Err(Refusal::DeadlineExceeded { after }))
    }
}

impl<S: Runner> Drop for Waiting<S> {
    fn drop(&mut self) {
        let leads = self.leads.take();
        if leads.is_some() {
            self.shared.appetite.looked();
        }
        if self.is_over {
            return;
        }
        let mut state = self.shared.lock();
        let entry = match state.queue.remove(self.key) {
            Some(entry) => Some(entry),
            None => state.gathers.remove(self.key),
        };
        if let Some(gather) = leads.and_then(|leads| state.gathers.take(leads.id)) {
            // The others must not wait for somebody who is gone.
            let refused = self.shared.queue_gather(&mut state, gather);
            if state.queue.is_empty() {
                drop(state);
            } else {
                self.shared.wake_one(state);
            }
            for entry in refused {
                entry.answer(Err(self.shared.overloaded()));
            }
        } else {
            drop(state);
        }
        // Its tensors are freed outside the lock.
        drop(entry);
        self.slot.leave();
    }
}
