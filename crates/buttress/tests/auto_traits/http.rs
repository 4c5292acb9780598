use buttress_http::*;
use bytes::Bytes;
use http_body_util::Empty;

use super::given::*;

check! {
    "http":
    values: [Proxy, StatusClassifier, HttpEndpoint<Svc>, Invalid, IdempotencyKey, Idempotent, Peer, Roots];
    handles: [ApiClient, Builder, Connections, HttpClient<Empty<Bytes>>];
    owned: [ApiBuilder, ApiRequest<'static>, ResponseBody, Multipart, Part, Body];
    errors: [
        ApiError, ContentError, InvalidSetting, StatusError, InvalidProxy, InvalidConfig, CutOff, InvalidEndpoint,
        Error, InvalidIdempotencyKey
    ];
    futures: [ResponseFuture];
    send_futures: [Sending];
    send_only: [ApiBody, ApiResponse];
    traits: [];
}
