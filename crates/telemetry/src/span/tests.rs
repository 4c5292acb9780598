#[cfg(feature = "otlp")]
mod calls;
#[cfg(feature = "otlp")]
mod cost;
#[cfg(feature = "otlp")]
mod faults;
#[cfg(feature = "otlp")]
mod kept;
#[cfg(not(feature = "opentelemetry"))]
mod off;
#[cfg(feature = "otlp")]
mod parents;
#[cfg(feature = "opentelemetry")]
mod plain;
#[cfg(feature = "otlp")]
#[path = "../../tests/support/received.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests outside share it")]
mod received;
#[cfg(feature = "otlp")]
mod sent_on;
#[cfg(feature = "otlp")]
mod support;
