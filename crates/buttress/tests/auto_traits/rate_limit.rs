use buttress_rate_limit::*;

use super::given::*;

check! {
    "rate-limit":
    values: [
        ByKey<OfRequest>, Everybody, One, Builder, KeyedBuilder<OfRequest>, KeyedLayer<OfRequest>, PerService,
        RateLimitLayer, Algorithm, Limit, KeyedRateLimiter, RateLimiter, Quota, Rate, RateLimit<Svc>, Reject, Wait,
        cluster::ClusterBuilder<cluster::MemoryStore>, cluster::Snapshot, cluster::MemoryStore, cluster::Ask,
        cluster::Grant, cluster::Node, cluster::Subject, cluster::WhenAway, http::Advertise<Svc, RateLimiter>,
        http::AdvertiseLayer<RateLimiter>, http::Client, http::ClientIp<OfRequest>, http::Path, http::Key,
        http::WithKey<OfRequest>, http::Network, http::Obey<Svc, RateLimiter>, http::ObeyLayer<RateLimiter>,
        http::Policy, http::Remaining, http::Forwarding, http::Proxies, http::Restriction, http::Restrictions
    ];
    handles: [cluster::ClusterLayer, cluster::ClusterLimiter, cluster::Clustered<Svc>];
    owned: [Waiting<Svc, Req>];
    errors: [
        InvalidLimit, InvalidLimits, InvalidRate, http::InvalidPrefix, http::InvalidNetwork, http::InvalidName
    ];
    futures: [
        ResponseFuture<Fut, Waiting<Svc, Req>>, cluster::ResponseFuture<Svc, Req>,
        http::AdvertiseFuture<HttpFut, RateLimiter>, http::ObeyFuture<HttpFut, RateLimiter>
    ];
    send_futures: [];
    send_only: [];
    traits: [Keyed, Weigh, WhenLimited, cluster::Select, cluster::Store, http::Obeys, http::Quotas, http::Subjects];
}
