//! What cannot be right is an error when telemetry is built, and secrets are in none of them.
#![cfg(feature = "otlp")]

use std::time::Duration;

use buttress_telemetry::{Telemetry, TelemetryBuilder, TelemetryError};

#[track_caller]
fn error(change: impl FnOnce(TelemetryBuilder) -> TelemetryBuilder, what: &str) -> TelemetryError {
    let built = change(Telemetry::builder("shop")).build();
    built.expect_err(what)
}

#[tokio::test]
async fn invalid_addresses_are_refused_and_not_repeated() {
    for address in [
        "",
        "127.0.0.1",
        "127.0.0.1:4317",
        "/path",
        "http://",
        "http://:4317",
        "http://host:99999",
        "http://host:0",
        "http://host:",
        "ftp://host:4317",
        "unix:///run/collector",
        "http://user:hunter2@host:4317",
        "http://host:4318/v1/traces",
        "http://host:4317?token=hunter2",
        "http://host name:4317",
        "http://host\n:4317",
        &format!("http://{}:4317", "a".repeat(600)),
    ] {
        let error = error(|builder| builder.otlp(address), address);
        assert!(matches!(error, TelemetryError::InvalidEndpoint { .. }), "{address:?}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    for address in ["http://127.0.0.1:4317", "http://[::1]:4317/", "HTTP://collector"] {
        assert!(Telemetry::builder("shop").otlp(address).build().is_ok(), "{address}");
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[tokio::test]
async fn tls_takes_a_feature() {
    let error = error(|builder| builder.otlp("https://collector:4317"), "TLS");
    assert_eq!(error, TelemetryError::NoTls);
    assert!(error.to_string().contains("tls-ring"));
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[tokio::test]
async fn tls_is_there_by_a_feature() {
    assert!(Telemetry::builder("shop").otlp("https://collector:4317").build().is_ok());
}

#[tokio::test]
async fn shares_intervals_names_and_filters_are_checked() {
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            error(|builder| builder.sample(share), "share"),
            TelemetryError::InvalidShare { .. }
        ));
    }
    let interval = Duration::from_millis(99);
    let expected = TelemetryError::InvalidInterval { interval };
    assert_eq!(error(|builder| builder.metrics_every(interval), "interval"), expected);
    for filter in ["shop=loud", "[{"] {
        let error = error(|builder| builder.log(filter), filter);
        assert!(matches!(error, TelemetryError::InvalidFilter { .. }), "{filter}: {error:?}");
    }
    for name in [String::new(), "a".repeat(256)] {
        assert_eq!(Telemetry::builder(&name).build().unwrap_err(), TelemetryError::InvalidServiceName);
    }
}

#[tokio::test]
async fn headers_are_checked_and_their_values_never_shown() {
    for (name, value) in [
        ("", "hunter2"),
        ("author ization", "hunter2"),
        ("x-bin", "hunter2"),
        ("grpc-timeout", "hunter2"),
        ("User-Agent", "hunter2"),
        ("x", "hunter2\r\nx-other: 1"),
        ("x", "hunter2 é"),
    ] {
        let error = error(|builder| builder.otlp_header(name, value), value);
        assert!(matches!(error, TelemetryError::InvalidHeader { .. }), "{name}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let all =
        |builder| (0..33).fold(builder, |it: TelemetryBuilder, i| it.otlp_header(&format!("x-{i}"), "1"));
    let many = error(all, "many");
    assert!(matches!(many, TelemetryError::InvalidHeader { .. }));
    let builder = Telemetry::builder("shop").otlp_header("authorization", "hunter2").attribute("a", "b");
    assert!(!format!("{builder:?}").contains("hunter2"));
    assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
}

#[test]
fn it_takes_a_runtime() {
    assert_eq!(Telemetry::builder("shop").build().unwrap_err(), TelemetryError::NoRuntime);
}
