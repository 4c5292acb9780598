//! What the machine charges for the parts that layers are made of.

use std::{
    cell::Cell,
    convert::Infallible,
    future::ready,
    hint::black_box,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{Instant, timeout};
use tower::{Service, service_fn, util::BoxCloneService};

use super::FOR_EVER;
use crate::{
    backend::HEALTHY,
    body::{Body, shared},
    ours::bare,
    row::{Expected, Row},
    verdict::Verdict,
};

const GROUP: &str = "physical";
const SERVED: Expected = Expected::All(Verdict::Served);

thread_local! {
    static CELL: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new(GROUP, name, SERVED, build);
    vec![
        bare(),
        row("Instant::now", |_| part((), |()| Instant::now())),
        row("thread-local cell", |_| part((), |()| CELL.set(CELL.get().wrapping_add(1)))),
        row("atomic load", |_| part(Arc::<AtomicU64>::default(), |word| word.load(Ordering::Acquire))),
        row("atomic add", |_| part(Arc::<AtomicU64>::default(), |word| word.fetch_add(1, Ordering::Relaxed))),
        row("atomic compare-exchange", |_| {
            part(Arc::<AtomicU64>::default(), |word| {
                word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| Some(at.wrapping_add(1)))
            })
        }),
        row("Arc clone", |_| part(Arc::new(0_u64), |value| drop(black_box(Arc::clone(value))))),
        row("mutex", |_| {
            part(Arc::<Mutex<u64>>::default(), |value| {
                *value.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            })
        }),
        row("box 64 bytes", |_| part((), |()| drop(black_box(Box::new([0_u64; 8]))))),
        row("boxed service", |_| shared(BoxCloneService::new(HEALTHY))),
        row("tokio timeout", |_| {
            let mut inner = HEALTHY;
            shared(service_fn(move |request| timeout(FOR_EVER, inner.call(request))))
        }),
    ]
}

/// A body that does one thing with some state, without any service.
fn part<T, R>(state: T, act: fn(&T) -> R) -> Box<dyn Body>
where
    T: Clone + Send + 'static,
    R: 'static,
{
    shared(service_fn(move |_| ready(Ok::<_, Infallible>(act(&state)))))
}
