use std::{convert::Infallible, future::Ready};

use buttress_core::*;

use super::given::*;

check! {
    "core":
    values: [
        Backoff, Delays, Jitter, ByError, Outcome, Deadline, Decision, Metric, Setting, SettingValue, Value, Origin,
        Reason, CloneRequest, Fallible<Svc>, Respond<(), ()>, Responding<Svc, ()>
    ];
    handles: [];
    owned: [BoxError, Scope, Decisions, WeakObserve, Shelf<()>];
    errors: [InvalidBackoff, UnknownAction, Rejected];
    futures: [
        Scoped<Fut>, FallibleFuture<Ready<Result<(), Infallible>>>,
        RespondFuture<Ready<Result<(), Rejected>>, fn(Rejected)>
    ];
    send_futures: [];
    send_only: [];
    traits: [Classify, Observe, Rejectable, ReplayRequest];
}
