//! The order of leaving: not ready, endpoints notice, stop accepting, finish, exit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Readiness;

/// When and how a part leaves. Cloned freely; every clone is the same shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown {
    begun: CancellationToken,
    /// The same as a flag, which every request reads: asking a token takes a lock.
    has_begun: Arc<AtomicBool>,
    stop_accepting: CancellationToken,
    /// The next process has the ports.
    handed_over: CancellationToken,
    /// Nothing is gained by waiting for endpoints.
    delay_is_over: CancellationToken,
    readiness: Readiness,
    /// Time between "not ready" and "stop accepting".
    pub(crate) drain_delay: Duration,
    /// Time that in-flight requests get after "stop accepting".
    pub(crate) drain_timeout: Duration,
}

impl Shutdown {
    pub(crate) fn new(readiness: Readiness, drain_delay: Duration, drain_timeout: Duration) -> Self {
        let (begun, stop_accepting) = (CancellationToken::new(), CancellationToken::new());
        Self {
            begun,
            has_begun: Arc::default(),
            stop_accepting,
            handed_over: CancellationToken::new(),
            delay_is_over: CancellationToken::new(),
            readiness,
            drain_delay,
            drain_timeout,
        }
    }

    /// Begins as for SIGTERM: unready now, listeners close after the drain delay.
    pub async fn begin(&self) {
        self.mark_begun();
        if !self.drain_delay.is_zero() {
            tracing::info!(delay = ?self.drain_delay, "not ready; waiting for clients to notice");
            let delay = tokio::time::sleep(self.drain_delay);
            if self.delay_is_over.run_until_cancelled(delay).await.is_none() {
                tracing::info!("the delay is cut short");
            }
        }
        self.stop_accepting.cancel();
    }

    /// Begins as when the next process has the ports: listeners close now, and connections once the drain delay has
    /// passed, so that clients meet the next process before theirs is closed.
    pub(crate) async fn hand_over(&self) {
        self.handed_over.cancel();
        self.begin().await;
    }

    /// Resolves when the next process has the ports.
    pub(crate) async fn handed_over(&self) {
        self.handed_over.cancelled().await;
    }

    /// Ends the delay of [`Shutdown::begin`], now or to come: what this part answers with is gone, so that a refused
    /// connection, which is tried elsewhere, is the better answer.
    pub fn cut_delay(&self) {
        self.delay_is_over.cancel();
    }

    /// Begins without the delay, as for Ctrl-C on a terminal, where no endpoint has to notice.
    pub fn begin_now(&self) {
        self.mark_begun();
        self.stop_accepting.cancel();
    }

    fn mark_begun(&self) {
        self.readiness.drain();
        self.has_begun.store(true, Ordering::Release);
        self.begun.cancel();
    }

    /// Resolves as soon as shutdown begins.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Whether shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Resolves when listeners must close and background work must come to its end.
    pub async fn stop_accepting(&self) {
        self.stop_accepting.cancelled().await;
    }

    /// A token for tasks that end when listeners close.
    pub fn token(&self) -> CancellationToken {
        self.stop_accepting.clone()
    }

    /// Time that in-flight work gets after [`Shutdown::stop_accepting`].
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unready_comes_before_the_listener_closes() {
        let readiness = Readiness::default();
        let shutdown = Shutdown::new(readiness.clone(), Duration::from_secs(5), Duration::from_secs(20));
        let started = tokio::time::Instant::now();
        let begin = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.begin().await }
        });
        shutdown.begun().await;
        assert!(!readiness.is_ready());
        assert!(!shutdown.token().is_cancelled());
        shutdown.stop_accepting().await;
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        begin.await.expect("the task ends");
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_can_be_cut_short() {
        let shutdown = Shutdown::new(
            Readiness::default(),
            Duration::from_secs(5),
            Duration::from_secs(20),
        );
        let started = tokio::time::Instant::now();
        let begin = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.begin().await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!shutdown.token().is_cancelled());
        shutdown.cut_delay();
        shutdown.stop_accepting().await;
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        begin.await.expect("the task ends");
    }
}
