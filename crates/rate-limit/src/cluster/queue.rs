//! What the worker is to look at, and whether there is one.

use std::mem;

use crate::sync::{Mutex, lock};

/// Both under one lock: what is put in while the worker ends is seen by it, or finds none.
#[derive(Debug)]
pub(crate) struct Queue<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    due: Vec<T>,
    /// The number of the worker that is there.
    worker: Option<u64>,
    workers: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { due: Vec::new(), worker: None, workers: 0 }))
    }

    /// Says whether there is a worker.
    pub(crate) fn push(&self, due: T) -> bool {
        let mut state = lock(&self.0);
        state.due.push(due);
        state.worker.is_some()
    }

    pub(crate) fn take(&self) -> Vec<T> {
        mem::take(&mut lock(&self.0).due)
    }

    /// The number of a new worker, unless there is one. `can` runs before, and may panic.
    pub(crate) fn hire(&self, can: impl FnOnce()) -> Option<u64> {
        let mut state = lock(&self.0);
        if state.worker.is_some() {
            return None;
        }
        state.workers += 1;
        let number = state.workers;
        can();
        state.worker = Some(number);
        Some(number)
    }

    pub(crate) fn is_worker(&self, number: u64) -> bool {
        lock(&self.0).worker == Some(number)
    }

    /// That worker ends, unless there is something to be looked at.
    pub(crate) fn resign(&self, number: u64) -> bool {
        let mut state = lock(&self.0);
        if !state.due.is_empty() {
            return false;
        }
        if state.worker == Some(number) {
            state.worker = None;
        }
        true
    }

    /// That worker is no more.
    pub(crate) fn leave(&self, number: u64) {
        let mut state = lock(&self.0);
        if state.worker == Some(number) {
            state.worker = None;
        }
    }

    /// Whoever is the worker is it no more.
    pub(crate) fn dismiss(&self) {
        lock(&self.0).worker = None;
    }
}
