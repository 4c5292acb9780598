use buttress_bulkhead::*;

use super::given::*;

check! {
    "bulkhead":
    values: [
        Adaptive, Limit, Queue, ByTask, Criticality, Builder, BulkheadLayer, PerService, Limiter, Snapshot,
        Bulkhead<Svc>, Reject
    ];
    handles: [Limiters<u32>, KeyedBulkhead<Svc, u32, OfRequest>, KeyedLayer<u32, OfRequest>];
    owned: [Permit, Waiting<Svc, Req>];
    errors: [InvalidLimit, InvalidQueue];
    futures: [Scoped<Fut>, ResponseFuture<Fut, ByError, Waiting<Svc, Req>>];
    send_futures: [];
    send_only: [];
    traits: [Prioritize, WhenFull, Key];
}
