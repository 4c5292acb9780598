#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod api_urls;
mod cache_control;
mod config;
mod cost;
mod forwarded;
mod head;
mod named_parameters;
mod postgres_url;
mod rate_limit_fields;
mod redis_cache;
mod retry_after;
mod trace_context;
mod vary;

pub use self::{
    api_urls::api_urls, cache_control::cache_control, config::config, forwarded::forwarded,
    named_parameters::named_parameters, postgres_url::postgres_url, rate_limit_fields::rate_limit_fields,
    redis_cache::redis_cache, retry_after::retry_after, trace_context::trace_context, vary::vary,
};

/// What is fed: any bytes. It panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target and its name, which is that of its corpus too.
pub const TARGETS: [(&str, Target); 11] = [
    ("api_urls", api_urls),
    ("cache_control", cache_control),
    ("config", config),
    ("forwarded", forwarded),
    ("named_parameters", named_parameters),
    ("postgres_url", postgres_url),
    ("rate_limit_fields", rate_limit_fields),
    ("redis_cache", redis_cache),
    ("retry_after", retry_after),
    ("trace_context", trace_context),
    ("vary", vary),
];
