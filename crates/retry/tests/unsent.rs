//! What must not be carried out twice, and is repeated nevertheless where it was not sent.

mod script;

use std::{error::Error, fmt};

use buttress_core::{Origin, Reason, Rejectable, Rejected};
use buttress_retry::ReplayRequest;
use script::{Script, layer};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    NoConnection,
    Broken,
    Rejected(Rejected),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Error for Failure {}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }

    fn sent(&self) -> bool {
        match self {
            Self::NoConnection => false,
            Self::Broken => true,
            Self::Rejected(rejected) => rejected.sent(),
        }
    }
}

/// Copies everything, and sends nothing twice.
#[derive(Clone)]
struct Once;

impl ReplayRequest<()> for Once {
    fn replay(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn can_replay(&self, (): &()) -> bool {
        false
    }

    fn can_replay_unsent(&self, (): &()) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_sent_is_repeated_until_one_was() {
    use Failure::{Broken, NoConnection};
    let timed_out = Origin::new("timeout", "unsent").reject(Reason::TimedOut);
    let (unsent, sent) = (Failure::Rejected(timed_out), Failure::Rejected(timed_out.after_sending()));
    for (results, end, attempts) in [
        (vec![Err(NoConnection), Err(NoConnection), Ok(7)], Ok(7), 3),
        (vec![Err(unsent), Ok(7)], Ok(7), 2),
        (vec![Err(Broken)], Err(Broken), 1),
        (vec![Err(sent)], Err(sent), 1),
        (vec![Err(NoConnection), Err(Broken)], Err(Broken), 2),
    ] {
        let (script, start) = (Script::of(results), Instant::now());
        let result = layer("once").requests(Once).layer(script.clone()).oneshot(()).await;
        assert_eq!((result, script.attempts(start).len()), (end, attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_which_nothing_was_sent_ends_as_not_sent() {
    let timed_out = Failure::Rejected(Origin::new("timeout", "unsent").reject(Reason::TimedOut));
    for (first, sent) in [(Failure::NoConnection, false), (Failure::Broken, true)] {
        let script = Script::of([Err(first), Err(timed_out)]);
        let error = layer("all").retries(1).layer(script).oneshot(()).await.unwrap_err();
        assert_eq!(error.sent(), sent);
    }
}
