use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::{Alert, AlertState};

/// What somebody is still to be told. The newest of an instance's alert takes the place of an older one.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Alert>>,
    news: Notify,
}

impl Queue {
    /// How many wait at most: beyond it, the oldest is dropped.
    pub(crate) const MOST: usize = 256;

    /// Whether another one was dropped for it.
    pub(crate) fn push(&self, alert: Alert) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = waiting.iter().position(|other| id(&other.state) == id(&alert.state));
        let dropped = match same {
            Some(at) => waiting.remove(at),
            None if waiting.len() == Self::MOST => waiting.pop_front(),
            None => None,
        };
        waiting.push_back(alert);
        drop(waiting);
        self.news.notify_one();
        dropped.is_some()
    }

    /// The oldest, as soon as there is one. For one that waits; none is lost when it is dropped.
    pub(crate) async fn next(&self) -> Alert {
        loop {
            let news = self.news.notified();
            let oldest = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match oldest {
                Some(alert) => return alert,
                None => news.await,
            }
        }
    }
}

fn id(state: &AlertState) -> (&str, &str) {
    (&state.rule, state.instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlertStatus, Change, Severity};

    fn alert(rule: &str, at: u64) -> Alert {
        let state = AlertState {
            rule: rule.to_owned(),
            severity: Severity::Warning,
            layer: "test".into(),
            instance: "one",
            status: AlertStatus::Firing,
            since: 0,
            value: 1.0,
            threshold: 0.0,
            summary: String::new(),
        };
        Alert { change: Change::Fired, at, state }
    }

    #[tokio::test]
    async fn the_newest_of_an_alert_wins_and_the_queue_is_bounded() {
        let queue = Queue::default();
        assert!(!queue.push(alert("a", 1)));
        assert!(!queue.push(alert("b", 2)));
        assert!(queue.push(alert("a", 3)), "the older one of the same");
        assert_eq!(queue.next().await, alert("b", 2));
        assert_eq!(queue.next().await, alert("a", 3));
        let dropped = (0..Queue::MOST + 7).filter(|at| queue.push(alert(&at.to_string(), 0))).count();
        assert_eq!(dropped, 7);
        assert_eq!(queue.next().await.state.rule, "7", "the oldest were dropped");
    }
}
