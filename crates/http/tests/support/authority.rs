//! Certificate authorities for tests.

use std::sync::Arc;

use buttress_http::rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "tls-aws-lc-rs")]
    return Arc::new(buttress_http::rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "tls-aws-lc-rs"))]
    Arc::new(buttress_http::rustls::crypto::ring::default_provider())
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of two authorities with one name, the wrong one would be asked.
        let key = KeyPair::generate().unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority of {:x?}", &key.public_key_raw()[..8]));
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A certificate for that name and its key, as PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Serves as `name`, and asks for certificates of `clients`, if of anybody.
    pub(crate) fn acceptor(&self, name: &str, clients: Option<&Authority>) -> TlsAcceptor {
        self.acceptor_with(name, clients, &[])
    }

    /// The same, speaking these protocols.
    pub(crate) fn acceptor_with(
        &self,
        name: &str,
        clients: Option<&Authority>,
        protocols: &[&[u8]],
    ) -> TlsAcceptor {
        let (certificate, key) = self.issue(name);
        let config =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider())
                    .build()
                    .unwrap(),
            ),
        };
        let certificate = PemObject::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
