use buttress_balance::*;

use super::given::*;

check! {
    "balance":
    values: [
        Dns, Resolution, Balancer<u32, Svc>, EndpointSnapshot<u32>, Snapshot<u32>, State, Builder, Ejection,
        Change<u32, Svc>, Endpoint<Svc>, Members<u32, Svc>, LeastLoaded, Sticky<OfRequest>
    ];
    handles: [Balance<u32, Svc>];
    owned: [];
    errors: [DnsError, InvalidDns, InvalidBalance, InvalidWeight];
    futures: [ResponseFuture<u32, Svc, Fut, Req, ByError>];
    send_futures: [];
    send_only: [DnsEndpoints<OfRequest>];
    traits: [Policy];
}
