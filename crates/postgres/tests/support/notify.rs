//! A listener and somebody who notifies.

use std::time::Duration;

use buttress_postgres::{Heard, Listener, PostgresConfig, tokio_postgres::Client};
use tokio::time::timeout;

pub(crate) const LISTENER: &str = "application_name = 'listener'";

pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap().with_application_name("listener")
}

pub(crate) async fn notify(spy: &Client, channel: &str, payload: &str) {
    spy.execute("select pg_notify($1, $2)", &[&channel, &payload]).await.unwrap();
}

async fn next(listener: &mut Listener) -> Heard {
    let next = timeout(Duration::from_secs(15), listener.next()).await;
    next.expect("something is heard soon").expect("the runtime has not ended")
}

/// The channel and the payload of what is heard next.
pub(crate) async fn notified(listener: &mut Listener) -> (String, String) {
    match next(listener).await {
        Heard::Notification(told) => (told.channel().to_owned(), told.payload().to_owned()),
        Heard::Reconnected => panic!("the connection was lost"),
    }
}

pub(crate) async fn reconnected(listener: &mut Listener) {
    let heard = next(listener).await;
    assert!(matches!(heard, Heard::Reconnected), "{heard:?}");
}

/// For what must not be heard: what is told after it is heard next.
pub(crate) async fn quiet(listener: &mut Listener, spy: &Client, channel: &str) {
    notify(spy, channel, "quiet").await;
    assert_eq!(notified(listener).await, (channel.to_owned(), "quiet".to_owned()));
}
