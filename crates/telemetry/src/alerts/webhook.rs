use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use buttress_http::ApiClient;

use super::{Alert, Notify, notify::Way};

/// An address that alerts are sent to.
pub(crate) struct Webhook {
    client: ApiClient,
    path: String,
}

impl Notify {
    /// Alerts are sent as JSON, one `POST` each, to a path below the client's base URL. Any answer but 2xx is a failure. The
    /// client brings what makes it dependable: its timeout bounds a call, and a retry layer in its stack tries again. Nobody
    /// else does: an alert that could not be sent is counted as failed, and not sent again.
    #[must_use]
    pub fn webhook(client: ApiClient, path: impl Into<String>) -> Self {
        Self(Way::Webhook(Webhook { client, path: path.into() }))
    }
}

impl Webhook {
    /// A stack that panics is a failure: the next alert is sent all the same.
    pub(crate) async fn send(&self, alert: &Alert) -> Result<(), String> {
        let mut sending = pin!(self.post(alert));
        poll_fn(|cx| {
            // What it panicked with may say anything.
            catch_unwind(AssertUnwindSafe(|| sending.as_mut().poll(cx)))
                .unwrap_or_else(|_| Poll::Ready(Err("the client panicked".to_owned())))
        })
        .await
    }

    /// The answer's body is neither read nor shown.
    async fn post(&self, alert: &Alert) -> Result<(), String> {
        let answer =
            self.client.post(&self.path).json(alert).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it was answered with {}", status.as_u16())) }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("client", &self.client).finish_non_exhaustive()
    }
}
