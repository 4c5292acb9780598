use buttress_retry::*;

use super::given::*;

check! {
    "retry":
    values: [];
    handles: [RetryLayer, Retrier, Retry<Svc>];
    owned: [];
    errors: [];
    futures: [ResponseFuture<Svc, Req, Fut, ByError, CloneRequest>];
    send_futures: [];
    send_only: [];
    traits: [];
}
