//! What a server sees of the connections to it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{io::AsyncReadExt, sync::Semaphore, time::sleep};

use super::{answer, ms, server};

/// What a server sees of the connections to it.
#[derive(Default)]
pub(crate) struct Watched {
    open: AtomicUsize,
    most: AtomicUsize,
    paths: Mutex<Vec<String>>,
}

impl Watched {
    pub(crate) fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

struct Open(Arc<Watched>);

impl Open {
    fn new(watched: &Arc<Watched>) -> Self {
        let open = watched.open.fetch_add(1, SeqCst) + 1;
        watched.most.fetch_max(open, SeqCst);
        Self(Arc::clone(watched))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// Answers each request with its path, after having waited for `permits`; each connection as long as the client keeps it.
pub(crate) async fn watched(permits: Arc<Semaphore>) -> (SocketAddr, Arc<Watched>) {
    let watched = Arc::new(Watched::default());
    let seen = Arc::clone(&watched);
    let addr = server(move |mut stream, _| {
        let (watched, permits) = (Arc::clone(&seen), Arc::clone(&permits));
        async move {
            let open = Open::new(&watched);
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                watched.paths.lock().unwrap().push(path.clone());
                permits.acquire().await.unwrap().forget();
                if path == "/last" {
                    // What the client does not use any more counts no longer.
                    drop(open);
                    return answer(&mut stream, &path).await;
                }
                answer(&mut stream, &path).await?;
            }
        }
    })
    .await;
    (addr, watched)
}

pub(crate) fn free() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2))
}

pub(crate) fn shut() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        sleep(ms(5)).await;
    }
    panic!("never: {what}");
}
