//! One thread with a runtime of its own, which lives for as long as the process.
//!
//! Three things need it. A server's parent-death signal is tied to the *thread* that spawned it, so
//! that thread must not end before the process does. What several tests share (a Postgres cluster, a
//! proxy) must not die with the runtime of the test that came first. And a server is waited for in real
//! time, even from a test whose clock is paused.

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

/// The runtime of the background thread.
pub(crate) fn handle() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let (send, receive) = mpsc::channel();
        thread::Builder::new()
            .name("testkit".into())
            .spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                send.send(runtime.handle().clone()).expect("the starter waits");
                runtime.block_on(std::future::pending::<()>());
            })
            .expect("a thread");
        receive.recv().expect("the thread sends its handle first")
    })
}

/// Runs `job` on the background thread and hands its output, or its panic, to the caller.
///
/// The wait holds a blocking thread of the caller's runtime, which keeps a paused clock from running
/// ahead: no timeout of the test fires while a server starts. Dropped, the job still runs to its end.
pub(crate) async fn run<T, F>(job: F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let job = handle().spawn(job);
    match tokio::task::spawn_blocking(|| handle().block_on(job)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) | Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => panic!("the runtime shut down: {cancelled}"),
        },
    }
}

/// A task on the background thread. Dropped, it is over, and its sockets are closed, before the drop
/// returns: a test may rely on the connection being refused in its next line.
#[derive(Debug)]
pub(crate) struct Task {
    abort: AbortHandle,
    over: Mutex<mpsc::Receiver<()>>,
}

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let (alive, over) = mpsc::channel();
        let task = handle().spawn(async move {
            let _alive: mpsc::Sender<()> = alive;
            work.await;
        });
        Self { abort: task.abort_handle(), over: Mutex::new(over) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
        // A job whose caller has left is dropped by the background thread, which must not wait for itself.
        if Handle::try_current().is_ok_and(|current| current.id() == handle().id()) {
            return;
        }
        // Reports its end when the task's half is dropped, which is the only thing that half does.
        let _ = self.over.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
    }
}
