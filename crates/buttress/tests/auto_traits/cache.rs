use buttress_cache::*;

use super::given::*;

check! {
    "cache":
    values: [Background, Foreground, Stats, Stored<()>, Want];
    handles: [
        Cache<u32, ()>, CacheLayer<u32, (), OfRequest>, Cached<Svc, u32, (), OfRequest, ByError, Background>,
        Invalidations<u32>
    ];
    owned: [Flights<u32, ()>, Joined<u32, ()>, Landed<u32, ()>, Leader<u32, ()>, Memory<u32, ()>, Entry<(), ()>];
    errors: [];
    futures: [Follower<u32, ()>];
    send_futures: [ResponseFuture<Svc, Fut, Req, u32, (), ByError>];
    send_only: [CacheBuilder<u32, ()>];
    traits: [Refresh, Store];
}
