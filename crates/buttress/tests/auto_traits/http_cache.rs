use buttress_http_cache::*;
use bytes::Bytes;
use http_body_util::Empty;

use super::given::*;

check! {
    "http-cache":
    values: [
        HttpCacheBuilder, Kind, Stats, rules::CacheName, rules::CacheStatus, rules::Forward, rules::Conditions,
        rules::Freshened, rules::HeadUpdate, rules::Verdict, rules::Moment, rules::Slice, rules::NotStored,
        rules::Stored, rules::Approach, rules::Kind, rules::Rules
    ];
    handles: [HttpCache, HttpCacheLayer, HttpCached<Svc>];
    owned: [ResponseBody<Empty<Bytes>>];
    errors: [BodyError, rules::InvalidCacheName];
    futures: [];
    send_futures: [ResponseFuture<Empty<Bytes>, BoxError>];
    send_only: [];
    traits: [];
}
