#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "api")]
mod api;
mod body;
mod builder;
mod calls;
mod classify;
mod client;
mod close;
mod connect;
mod connecting;
mod connection;
mod deadline_header;
mod demand;
mod dial;
mod due;
mod endpoint;
mod error;
mod exchanges;
mod future;
mod host;
mod idempotency_key;
mod idempotent;
mod idle_task;
mod left;
mod limits;
#[cfg(all(test, buttress_loom))]
mod loom_models;
mod multipart;
mod orders;
mod outgoing;
mod peer;
mod place;
mod places;
mod pool_timer;
#[cfg(feature = "proxy")]
mod proxy;
mod random;
mod request_body;
mod set_caps;
mod settings;
mod stranded;
mod stream;
mod sync;
mod tls;
#[cfg(feature = "opentelemetry")]
mod trace_context;
mod unread;
mod untouched;
mod upload;
mod waiting;
mod wanted;

pub use rustls;

#[cfg(feature = "api")]
pub use self::api::{
    ApiBody, ApiBuilder, ApiClient, ApiError, ApiRequest, ApiResponse, ContentError, InvalidSetting, Sending,
    StatusError,
};
#[cfg(feature = "proxy")]
pub use self::proxy::{InvalidProxy, Proxy};
pub use self::{
    body::ResponseBody,
    builder::{Builder, InvalidConfig},
    classify::{StatusClassifier, is_idempotent},
    client::{Connections, HttpClient},
    close::CutOff,
    deadline_header::{EXPECTED_TIMEOUT, deadline_of},
    endpoint::{HttpEndpoint, InvalidEndpoint},
    error::{Error, Invalid},
    future::ResponseFuture,
    idempotency_key::{IdempotencyKey, InvalidIdempotencyKey},
    idempotent::Idempotent,
    multipart::{Multipart, Part},
    peer::Peer,
    request_body::Body,
    tls::Roots,
};
#[doc(inline)]
pub use buttress_core::retry_after;
