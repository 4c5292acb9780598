use buttress_timeout::*;

use super::given::*;

check! {
    "timeout":
    values: [TimeoutLayer, Timeout<Svc>];
    handles: [];
    owned: [];
    errors: [];
    futures: [ResponseFuture<Fut>];
    send_futures: [];
    send_only: [];
    traits: [];
}
