use buttress_redis::*;

use super::given::*;

check! {
    "redis":
    values: [KindClassifier, Arg, Command, RedisConfig, ServerError, cache::StoreStats];
    handles: [Redis, cache::StoreWatch, rate_limit::RedisStore];
    owned: [cache::Lease, cache::RedisStore<u32, ()>];
    errors: [InvalidUrl, Error, cache::StoreError, rate_limit::StoreError];
    futures: [];
    send_futures: [ResponseFuture];
    send_only: [];
    traits: [];
}
