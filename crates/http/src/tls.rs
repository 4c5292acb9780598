use rustls::ClientConfig;

/// The Mozilla roots and rustls's default versions, by the provider of the enabled feature.
///
/// The provider is named, never looked up in the process: `ClientConfig::builder()` panics where two are compiled in.
/// With both features on it is aws-lc-rs. Features add up over a whole dependency graph, and whoever asked for aws-lc-rs
/// (FIPS, post-quantum key exchange) must not lose it to a crate that is content with ring.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(crate) fn default_config() -> Result<Option<ClientConfig>, rustls::Error> {
    #[cfg(feature = "tls-aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(config))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[expect(clippy::unnecessary_wraps, reason = "with a provider it can fail")]
pub(crate) fn default_config() -> Result<Option<ClientConfig>, rustls::Error> {
    Ok(None)
}
