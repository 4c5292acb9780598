use std::sync::Arc;

use buttress_http::rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, pki_types::CertificateDer};

pub(crate) fn providers() -> Vec<Arc<CryptoProvider>> {
    vec![
        #[cfg(feature = "tls-ring")]
        Arc::new(buttress_http::rustls::crypto::ring::default_provider()),
        #[cfg(feature = "tls-aws-lc-rs")]
        Arc::new(buttress_http::rustls::crypto::aws_lc_rs::default_provider()),
    ]
}

/// A client's configuration that trusts this authority alone.
pub(crate) fn trusting(authority: &CertificateDer<'static>) -> ClientConfig {
    trusting_by(authority, providers().remove(0))
}

pub(crate) fn trusting_by(
    authority: &CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
