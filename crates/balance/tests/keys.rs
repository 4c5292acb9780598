//! Keys are the callers' own code.

use buttress_balance::{Balance, Change, Endpoint};
use buttress_core::BoxError;
use std::{
    fmt,
    future::ready,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};
use tower::{ServiceExt, service_fn};

static PANICS: AtomicBool = AtomicBool::new(false);
#[derive(Debug, Clone)]
struct Key(u32);
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        assert!(!(PANICS.load(SeqCst) && self.0 == 3), "on purpose");
        self.0 == other.0
    }
}
impl Eq for Key {}
impl Hash for Key {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.hash(h)
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Neither the endpoints nor who is among them, though some had been compared before.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_key_changes_nothing() {
    let endpoint = |version: u32| Endpoint::new(service_fn(move |(): ()| ready(Ok::<_, BoxError>(version))));
    let balance = Balance::builder("keys").build([1, 2, 3].map(|key| (Key(key), endpoint(1))));
    let members = balance.members();
    PANICS.store(true, SeqCst);
    let all = vec![(Key(2), endpoint(2)), (Key(3), endpoint(2)), (Key(4), endpoint(2))];
    assert!(catch_unwind(AssertUnwindSafe(|| members.replace(all))).is_err());
    PANICS.store(false, SeqCst);
    let mut keys: Vec<_> = balance.balancer().snapshot().endpoints.iter().map(|e| e.key.0).collect();
    keys.sort();
    assert_eq!(keys, [1, 2, 3]);
    members.apply(Change::Remove(Key(9)));
    for _ in 0..50 {
        assert_eq!(balance.clone().oneshot(()).await.unwrap(), 1);
    }
}
