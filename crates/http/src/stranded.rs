//! Calls that only the queue can help.
//!
//! hyper gives a connection that becomes idle to the call that has waited longest. Where the connection is closed before
//! that call takes it, the call waits on for a place alone, and later ones get what becomes idle. So while anybody waits,
//! it is looked now and then whether somebody is passed over, and a connection of his host is closed for him.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http::Uri;
use tokio::time::sleep;

use crate::places::{Book, Places};

/// A call that has been given a connection takes it sooner than that.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is wrong only if it is still so the next time.
#[derive(Default)]
struct Suspects {
    /// Waiters that a later call has overtaken.
    overtaken: HashSet<u64>,
    /// Idle connections, and after how many exchanges, although somebody waits for their host.
    idle: HashSet<(u64, u64)>,
}

/// Looks as long as anybody waits.
pub(crate) fn help(places: Arc<Places>) -> impl Future<Output = ()> + Send {
    // Made here: the runtime may end before it has polled this.
    look(Looking { places, over: false })
}

async fn look(mut looking: Looking) {
    let mut suspects = Suspects::default();
    loop {
        sleep(INTERVAL).await;
        let mut book = looking.places.book();
        if book.waiting.is_empty() {
            book.is_looked_after = false;
            looking.over = true;
            return;
        }
        suspects = book.look(&suspects);
        looking.places.close_dismissed(&book);
    }
}

/// The runtime may end before the waiting does.
struct Looking {
    places: Arc<Places>,
    over: bool,
}

impl Drop for Looking {
    fn drop(&mut self) {
        if !self.over {
            self.places.book().is_looked_after = false;
        }
    }
}

impl Book {
    fn look(&mut self, before: &Suspects) -> Suspects {
        let mut now = Suspects::default();
        let mut first: HashMap<Uri, u64> = HashMap::new();
        for (&ticket, waiter) in &self.waiting {
            first.entry(waiter.host.clone()).or_insert(ticket);
        }
        let mut dismissed = Vec::new();
        for (host, ticket) in first {
            let of_host = self.open.iter().filter(|(_, connection)| connection.host == host);
            let mut helpful = None;
            let mut helped = false;
            for (&number, connection) in of_host {
                if connection.has_orders() {
                    helped = true;
                } else if let Some(exchanges) = connection.idle_after() {
                    if before.idle.contains(&(number, exchanges)) {
                        dismissed.push(number);
                        helped = true;
                        break;
                    }
                    now.idle.insert((number, exchanges));
                } else {
                    helpful.get_or_insert(number);
                }
            }
            if !helped && self.hosts.get(&host).is_some_and(|seats| seats.served >= ticket) {
                if before.overtaken.contains(&ticket) {
                    dismissed.extend(helpful);
                } else {
                    now.overtaken.insert(ticket);
                }
            }
        }
        for number in dismissed {
            self.dismiss(number);
        }
        now
    }
}

impl Places {
    /// A call got its answer from this host, which had begun when so many had come to the queue.
    pub(crate) fn served(&self, host: &Uri, since: u64) {
        if !self.anybody_waits.load(SeqCst) {
            return;
        }
        if let Some(seats) = self.book().hosts.get_mut(host) {
            seats.served = seats.served.max(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use buttress_core::Origin;
    use tokio::runtime::Builder;

    use super::*;
    use crate::{connecting, places::Caps, pool_timer::PoolTimer};

    #[test]
    fn a_runtime_that_ends_before_it_looked_once_leaves_the_looking_to_the_next() {
        let caps = Caps { per_host: 1, total: 1, waiting: 8 };
        let places = Arc::new(Places::new(
            Origin::new("http", "looking"),
            caps,
            PoolTimer::new(INTERVAL, &Arc::default()),
        ));
        let host = Uri::from_static("http://host/");
        let wait = || Arc::clone(&places).place(host.clone(), INTERVAL);
        for _ in 0..2 {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let (mut first, mut second) = (pin!(wait()), pin!(wait()));
            connecting::watch(&mut connecting::Left::default(), || {
                let first = first.as_mut().poll(&mut cx);
                assert!(first.is_ready());
                assert!(second.as_mut().poll(&mut cx).is_pending());
                assert!(places.book().is_looked_after);
            });
            drop(_entered);
            drop(runtime);
            assert!(!places.book().is_looked_after);
        }
    }
}
