//! Several threads, callers who leave at any moment, and everybody gets his own.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_batch::Batched;
use buttress_core::Deadline;
use support::{Failure, drop_after, layer};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt, service_fn};

const CALLERS: u32 = 64;
const CALLS: u32 = 500;

type Sent = Arc<Mutex<HashMap<u32, u32>>>;

async fn run<S>(service: Batched<S, u32, u32, Failure>) -> u32
where
    S: Service<Vec<u32>, Response = Vec<Result<u32, Failure>>, Error = Failure> + Clone + Send + 'static,
    S::Future: Send,
{
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                for round in 0..CALLS {
                    let request = caller * CALLS + round;
                    let call = service.clone().oneshot(request);
                    // Some leave after a poll or two, or have little time.
                    let result = match (request.wrapping_mul(2_654_435_761)) >> 27 {
                        0 => drop_after(1, call).await,
                        1 => drop_after(2, call).await,
                        2 => {
                            let limit = Duration::from_micros(u64::from(request % 300));
                            Some(Deadline::after(limit).scope(call).await)
                        }
                        _ => Some(call.await),
                    };
                    match result {
                        Some(Ok(answer)) => {
                            assert_eq!(answer, request * 10);
                            answered += 1;
                        }
                        Some(Err(Failure::Rejected(_))) | None => {}
                        Some(Err(other)) => panic!("{other:?}"),
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for caller in callers {
        answered += timeout(Duration::from_secs(60), caller).await.expect("nobody waits for ever").unwrap();
    }
    let handle = service.batch();
    timeout(Duration::from_secs(60), handle.close()).await.expect("it drains");
    assert_eq!(handle.stats().waiting, 0);
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_gets_his_own_and_nothing_is_sent_twice() {
    for in_flight in [1, 3] {
        let sent: Sent = Arc::default();
        let log = sent.clone();
        let inner = service_fn(move |requests: Vec<u32>| {
            let log = log.clone();
            async move {
                tokio::task::yield_now().await;
                let mut log = log.lock().unwrap();
                requests.iter().for_each(|request| *log.entry(*request).or_default() += 1);
                Ok(requests.into_iter().map(|request| Ok(request * 10)).collect())
            }
        });
        let answered = run(layer("threads").max_size(20).in_flight(in_flight).layer(inner)).await;
        let sent = sent.lock().unwrap();
        assert!(sent.values().all(|times| *times == 1));
        assert!(answered as usize <= sent.len());
        assert!(answered > CALLERS * CALLS * 7 / 8, "{answered}");
    }
}
