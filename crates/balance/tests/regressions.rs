//! Defects seen in the field, each by its number.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_balance::{Balance, Change, Endpoint, Members};
use proptest::prelude::*;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt, limit::ConcurrencyLimit, service_fn, util::BoxCloneSyncService};

/// A service that says who it is, and remembers whether it was called after its removal.
#[derive(Clone, Default)]
struct Watched {
    id: u64,
    removed: Arc<AtomicBool>,
    /// Calls that began after its removal.
    wrong: Arc<AtomicU64>,
}

impl Watched {
    fn limited(&self, gate: &Arc<Semaphore>) -> Endpoint<Limited> {
        Endpoint::new(ConcurrencyLimit::with_semaphore(self.clone(), Arc::clone(gate)))
    }
}

type Limited = ConcurrencyLimit<Watched>;

impl Service<u64> for Watched {
    type Response = u64;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<u64>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, pause: u64) -> Self::Future {
        if self.removed.load(SeqCst) {
            self.wrong.fetch_add(1, SeqCst);
        }
        let id = self.id;
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok(id)
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8),
    Remove(u8),
    Replace(Vec<u8>),
    Call(u64),
    Permits(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0_u8..6;
    prop::collection::vec(
        prop_oneof![
            4 => key().prop_map(Step::Insert),
            4 => key().prop_map(Step::Remove),
            1 => prop::collection::vec(key(), 0..5).prop_map(Step::Replace),
            8 => (0_u64..5).prop_map(Step::Call),
            2 => (1_usize..3).prop_map(Step::Permits),
            4 => (0_u64..4).prop_map(Step::Pass),
        ],
        1..80,
    )
}

/// What should be there: the service of each key.
struct Model {
    members: Members<u8, Limited>,
    gate: Arc<Semaphore>,
    known: BTreeMap<u8, Watched>,
    wrong: Arc<AtomicU64>,
    next: u64,
}

impl Model {
    fn make(&mut self) -> Watched {
        self.next += 1;
        Watched { id: self.next, removed: Arc::default(), wrong: Arc::clone(&self.wrong) }
    }

    fn change(&mut self, step: &Step) {
        let mut gone = Vec::new();
        match step {
            Step::Insert(key) => {
                let new = self.make();
                self.members.apply(Change::Insert(*key, new.limited(&self.gate)));
                gone.extend(self.known.insert(*key, new));
            }
            Step::Remove(key) => {
                self.members.apply(Change::Remove(*key));
                gone.extend(self.known.remove(key));
            }
            Step::Replace(keys) => {
                let new: Vec<_> = keys.iter().map(|key| (*key, self.make())).collect();
                let all = new.iter().map(|(key, it)| (*key, it.limited(&self.gate))).collect();
                self.members.replace(all);
                gone.extend(std::mem::take(&mut self.known).into_values());
                self.known = new.into_iter().collect();
            }
            _ => {}
        }
        // From now on, whoever is called is called wrongly.
        gone.iter().for_each(|it| it.removed.store(true, SeqCst));
        assert_eq!(self.members.len(), self.known.len());
    }
}

fn runs(steps: &[Step], runtime: &tokio::runtime::Runtime) {
    runtime.block_on(async {
        tokio::time::pause();
        let gate = Arc::new(Semaphore::new(1));
        let balance = Balance::builder("removals").build(Vec::<(u8, Endpoint<Limited>)>::new());
        let members = balance.members();
        let mut model = Model {
            members,
            gate: Arc::clone(&gate),
            known: BTreeMap::new(),
            wrong: Arc::default(),
            next: 0,
        };
        let mut calls = Vec::new();
        for step in steps {
            match step {
                // Chosen now, and polled when the next step lets it: others may come between.
                Step::Call(pause) => calls.push(tokio::spawn(balance.clone().call(*pause))),
                Step::Permits(count) => gate.add_permits(*count),
                Step::Pass(0) => tokio::task::yield_now().await,
                Step::Pass(time) => tokio::time::sleep(Duration::from_millis(*time)).await,
                change => model.change(change),
            }
        }
        gate.add_permits(100);
        for call in calls {
            // Every call ends: with an answer, or since there was no endpoint.
            if let Err(error) =
                tokio::time::timeout(Duration::from_secs(60), call).await.expect("it hangs").unwrap()
            {
                assert!(error.to_string().contains("there is no endpoint"), "{error}");
            }
        }
        assert_eq!(model.wrong.load(SeqCst), 0, "a call went to an endpoint that had been removed");
        let snapshot = balance.balancer().snapshot();
        assert!(snapshot.endpoints.iter().all(|endpoint| endpoint.pending == 0), "{snapshot:?}");
        // And those that are there are the ones that should be.
        let answers: Vec<u64> = model.known.values().map(|it| it.id).collect();
        for _ in 0..20 {
            match balance.clone().oneshot(0).await {
                Ok(id) => assert!(answers.contains(&id)),
                Err(_) => assert!(answers.is_empty()),
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes and goes while calls are chosen, wait for readiness and run.
    #[test]
    fn regression_30_no_call_reaches_an_endpoint_that_was_removed(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runs(&steps, &runtime);
    }
}

/// On several threads: a call that begins after the removal has returned never reaches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_30_nor_on_another_thread() {
    let balance = Balance::builder("threads").build([(0, named(0)), (1, named(1))]);
    let members = balance.members();
    let newest = Arc::new(Mutex::new(0_u64));
    let ended = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (balance, newest, ended) = (balance.clone(), Arc::clone(&newest), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while !ended.load(SeqCst) {
                    // Read before the call: what it is now, or newer, is what may answer.
                    let oldest = *newest.lock().unwrap();
                    let answer = balance.clone().oneshot(()).await.unwrap();
                    assert!(answer >= oldest, "{answer} was removed before {oldest} was all there is");
                    calls += 1;
                    tokio::task::yield_now().await;
                }
                calls
            })
        })
        .collect();
    for version in 1..2_000 {
        members.replace(vec![(0, named(version)), (1, named(version))]);
        *newest.lock().unwrap() = version;
        tokio::task::yield_now().await;
    }
    ended.store(true, SeqCst);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

fn named(version: u64) -> Endpoint<BoxCloneSyncService<(), u64, io::Error>> {
    Endpoint::new(BoxCloneSyncService::new(service_fn(move |()| std::future::ready(Ok(version)))))
}

/// It takes itself out of the balancer when it is asked whether it is ready, and is.
#[derive(Clone)]
struct Leaves {
    members: Arc<Mutex<Option<Members<u8, Leaves>>>>,
    pending_first: bool,
    called: Arc<AtomicBool>,
}

impl Service<()> for Leaves {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.pending_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let members = self.members.lock().unwrap().take();
        if let Some(members) = members {
            members.apply(Change::Remove(0));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.called.store(true, SeqCst);
        std::future::ready(Ok(()))
    }
}

/// Between the answer that it is ready and the call there is a last look.
#[tokio::test(start_paused = true)]
async fn regression_30_nor_one_that_is_removed_while_it_is_asked() {
    for pending_first in [false, true] {
        let leaves = Leaves { members: Arc::default(), pending_first, called: Arc::default() };
        let (slot, called) = (Arc::clone(&leaves.members), Arc::clone(&leaves.called));
        let balance = Balance::builder("leaves").build([(0, Endpoint::new(leaves))]);
        *slot.lock().unwrap() = Some(balance.members());
        let error = balance.oneshot(()).await.unwrap_err();
        assert!(error.to_string().contains("there is no endpoint"), "{error}");
        assert!(!called.load(SeqCst), "{pending_first}");
    }
}
