//! An authority of the tests' own, and what it vouches for.

use std::sync::Arc;

use buttress_postgres::rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// In PEM, as the server wants it.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// One that nobody else vouches for.
    pub(crate) fn self_signed(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Valid for these hosts, and as a client for this user.
    pub(crate) fn vouches_for(&self, hosts: &[&str], user: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority alone.
    pub(crate) fn trusted_by(&self, provider: Arc<CryptoProvider>) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        config.unwrap().with_root_certificates(self.roots()).with_no_client_auth()
    }

    /// One that shows a certificate, too.
    pub(crate) fn trusted_with(&self, client: &Pair, provider: Arc<CryptoProvider>) -> ClientConfig {
        let certificate = vec![PemObject::from_pem_slice(client.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        config.unwrap().with_root_certificates(self.roots()).with_client_auth_cert(certificate, key).unwrap()
    }
}

/// Those that are compiled in.
pub(crate) fn providers() -> Vec<Arc<CryptoProvider>> {
    vec![
        #[cfg(feature = "tls-ring")]
        Arc::new(buttress_postgres::rustls::crypto::ring::default_provider()),
        #[cfg(feature = "tls-aws-lc-rs")]
        Arc::new(buttress_postgres::rustls::crypto::aws_lc_rs::default_provider()),
    ]
}
