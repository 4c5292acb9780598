use buttress_batch::*;

use super::given::*;

check! {
    "batch":
    values: [Stats];
    handles: [Batch<Req, (), BoxError>, BatchLayer<Req, (), BoxError>, Batched<Svc, Req, (), BoxError>];
    owned: [];
    errors: [];
    futures: [ResponseFuture<Many, ManyFut, Req, (), BoxError>];
    send_futures: [];
    send_only: [Process<(), Svc, Req, (), BoxError>];
    traits: [];
}
