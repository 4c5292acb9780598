use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::task::{JoinSet, spawn_blocking};

use super::{Alert, queue::Queue};

/// Who is told that an alert fires or clears, besides `tracing`.
pub struct Notify(pub(crate) Way);

pub(crate) enum Way {
    Function(Arc<dyn Fn(&Alert) + Send + Sync>),
    AsyncFunction(Arc<dyn Fn(Alert) -> Told + Send + Sync>),
    #[cfg(feature = "webhook")]
    Webhook(super::webhook::Webhook),
}

type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Notify {
    /// A function, one alert at a time. It runs where it may block. One that panics is called again for the next alert; one
    /// that never returns gets no other, and holds back the end of the runtime.
    pub fn function(function: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
        Self(Way::Function(Arc::new(function)))
    }

    /// An async function, one alert at a time. It must not block. One that panics is called again for the next alert; one that
    /// is never done gets no other. It is dropped with the last [`Alerts`](super::Alerts).
    pub fn async_function<F>(function: impl Fn(Alert) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Way::AsyncFunction(Arc::new(move |alert| Box::pin(function(alert)))))
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Function(_) => "Notify::function",
            Way::AsyncFunction(_) => "Notify::async_function",
            #[cfg(feature = "webhook")]
            Way::Webhook(_) => "Notify::webhook",
        })
    }
}

/// How often notifying went well.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Newer ones took their places, or the queue was full.
    pub(crate) dropped: AtomicU64,
}

/// What it panicked with may say anything.
const PANICKED: &str = "the function panicked";

/// Tells one after the other, for ever.
pub(crate) async fn deliver(notify: Notify, queue: Arc<Queue>, counts: Arc<Counts>) {
    loop {
        let alert = queue.next().await;
        let (rule, instance) = (alert.state.rule.clone(), alert.state.instance);
        let told = match &notify.0 {
            Way::Function(function) => {
                let function = Arc::clone(function);
                spawn_blocking(move || function(&alert)).await.map_err(|_| PANICKED.to_owned())
            }
            Way::AsyncFunction(function) => {
                let function = Arc::clone(function);
                // It is a task of its own for its panics, and ends with this one.
                let mut task = JoinSet::new();
                task.spawn(async move { function(alert).await });
                let told = task.join_next().await;
                told.unwrap_or(Ok(())).map_err(|_| PANICKED.to_owned())
            }
            #[cfg(feature = "webhook")]
            Way::Webhook(webhook) => webhook.send(&alert).await,
        };
        match told {
            Ok(()) => _ = counts.delivered.fetch_add(1, Relaxed),
            Err(error) => {
                counts.failed.fetch_add(1, Relaxed);
                tracing::warn!(%rule, instance, %error, "an alert could not be delivered");
            }
        }
    }
}
