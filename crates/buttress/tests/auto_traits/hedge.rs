use buttress_hedge::*;

use super::given::*;

check! {
    "hedge":
    values: [HedgeDelay, Percentile];
    handles: [Hedger, HedgeLayer<CloneRequest>, Hedge<Svc, CloneRequest>];
    owned: [];
    errors: [InvalidPercentile];
    futures: [ResponseFuture<Svc, Req, ByError, CloneRequest>];
    send_futures: [];
    send_only: [];
    traits: [];
}
