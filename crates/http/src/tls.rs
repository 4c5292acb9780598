use std::{fmt, sync::Arc};

use buttress_core::{BoxError, Setting, SettingValue};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    builder::{Builder, InvalidConfig},
    settings::on,
};

/// Whom a client trusts to vouch for servers, beside the [`root_certificates`](Builder::root_certificates) it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The authorities that Mozilla trusts, as of when `webpki-roots` was published.
    #[default]
    Mozilla,
    /// What the platform trusts, read when the client is built: the file or directory that OpenSSL would read (also
    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`), the keychain of macOS, the store of Windows.
    #[cfg(feature = "native-roots")]
    Platform,
    /// Nobody beside them.
    Given,
}

/// What a builder was told about TLS.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) config: Option<ClientConfig>,
    roots: Option<Roots>,
    given: Vec<Vec<u8>>,
    client: Option<Arc<ClientPem>>,
}

struct ClientPem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("config", &self.config.is_some())
            .field("roots", &self.roots)
            .field("root_certificates", &self.given.len())
            .field("client_certificate", &self.client.is_some())
            .finish()
    }
}

impl Tls {
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let roots = match self.roots.unwrap_or_default() {
            _ if self.config.is_some() => SettingValue::Off,
            Roots::Mozilla => SettingValue::Word("mozilla"),
            #[cfg(feature = "native-roots")]
            Roots::Platform => SettingValue::Word("platform"),
            Roots::Given => SettingValue::Word("given"),
        };
        visit(Setting::new("roots", roots));
        visit(Setting::new("root_certificates", SettingValue::Count(self.given.len() as u64)));
        visit(Setting::new("client_certificate", on(self.client.is_some())));
        visit(Setting::new("tls_config", on(self.config.is_some())));
    }
}

impl Builder {
    /// Whom to trust to vouch for servers. [`Roots::Mozilla`] by default.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.tls.roots = Some(roots);
        self
    }

    /// Trusts these authorities, too: one or more certificates as PEM, whose other sections are passed over. Each call
    /// adds to those before. To trust nobody else, choose [`Roots::Given`].
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.given.push(pem.into());
        self
    }

    /// Shows this certificate to servers that ask for one (mutual TLS): as PEM the chain, the client's own certificate
    /// first, and the unencrypted key, as PKCS#8, PKCS#1 or SEC1. The key is shown by no `Debug` and in no error.
    pub fn client_certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some(Arc::new(ClientPem { chain: chain_pem.into(), key: key_pem.into() }));
        self
    }
}

impl Tls {
    /// The configuration; `None` where there is no provider, and nothing was asked of it.
    ///
    /// The provider is named, never looked up in the process: `ClientConfig::builder()` panics where two are compiled in.
    pub(crate) fn config(self) -> Result<Option<ClientConfig>, InvalidConfig> {
        let asked = match () {
            () if self.client.is_some() => Some("client_certificate"),
            () if !self.given.is_empty() => Some("root_certificates"),
            () => self.roots.map(|_| "roots"),
        };
        if let Some(config) = self.config {
            return match asked {
                Some(knob) => Err(InvalidConfig::Conflict("tls_config", knob)),
                None => Ok(Some(config)),
            };
        }
        let Some(provider) = provider() else {
            return asked.map_or(Ok(None), |knob| Err(InvalidConfig::NoTls(knob)));
        };
        let roots = roots(self.roots.unwrap_or_default(), &self.given)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| InvalidConfig::Tls(error.into()))?
            .with_root_certificates(roots);
        let Some(client) = self.client else { return Ok(Some(config.with_no_client_auth())) };
        let chain = certificates(&client.chain, "client certificate")?;
        // What the parser says of a broken key quotes its lines.
        let key = PrivateKeyDer::from_pem_slice(&client.key).map_err(|_| {
            unusable("client certificate's key", "it is no PEM of an unencrypted private key")
        })?;
        config
            .with_client_auth_cert(chain, key)
            .map(Some)
            .map_err(|error| unusable("client certificate with its key", error))
    }
}

/// With both features on it is aws-lc-rs. Features add up over a whole dependency graph, and whoever asked for aws-lc-rs
/// (FIPS, post-quantum key exchange) must not lose it to a crate that is content with ring.
fn provider() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "tls-aws-lc-rs")]
    return Some(rustls::crypto::aws_lc_rs::default_provider().into());
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
    return Some(rustls::crypto::ring::default_provider().into());
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    None
}

fn roots(chosen: Roots, given: &[Vec<u8>]) -> Result<RootCertStore, InvalidConfig> {
    let mut store = RootCertStore::empty();
    match chosen {
        Roots::Mozilla => mozilla(&mut store),
        #[cfg(feature = "native-roots")]
        Roots::Platform => platform(&mut store)?,
        Roots::Given if given.is_empty() => {
            return Err(unusable(
                "root certificates",
                "there are none, and `Roots::Given` trusts nobody else",
            ));
        }
        Roots::Given => {}
    }
    for pem in given {
        for certificate in certificates(pem, "root certificates")? {
            store.add(certificate).map_err(|error| unusable("root certificates", error))?;
        }
    }
    Ok(store)
}

fn mozilla(store: &mut RootCertStore) {
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // Nobody gets here without a provider.
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    let _ = store;
}

#[cfg(feature = "native-roots")]
fn platform(store: &mut RootCertStore) -> Result<(), InvalidConfig> {
    const WHICH: &str = "platform's roots";
    let loaded = rustls_native_certs::load_native_certs();
    if let Some(error) = loaded.errors.into_iter().next() {
        return Err(unusable(WHICH, error));
    }
    // A platform's store holds odd ones that no verifier takes. Whom they vouch for is refused when it connects.
    match store.add_parsable_certificates(loaded.certs) {
        (0, _) => Err(unusable(WHICH, "there are none")),
        _ => Ok(()),
    }
}

fn certificates(pem: &[u8], which: &'static str) -> Result<Vec<CertificateDer<'static>>, InvalidConfig> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // The parser's own words may quote a key that was given in the certificate's place.
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable(which, "there is no certificate in the PEM")),
        Err(_) => Err(unusable(which, "the PEM is malformed")),
    }
}

fn unusable(which: &'static str, why: impl Into<BoxError>) -> InvalidConfig {
    InvalidConfig::Certificates { which, why: why.into() }
}

#[cfg(all(test, not(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))))]
mod tests {
    use http_body_util::Empty;

    use super::*;
    use crate::HttpClient;

    #[test]
    fn what_needs_tls_is_an_error_that_says_so() {
        let builder = HttpClient::builder;
        for (asked, knob) in [
            (builder().roots(Roots::Mozilla), "roots"),
            (builder().root_certificates("pem"), "root_certificates"),
            (builder().client_certificate("chain", "key"), "client_certificate"),
        ] {
            let error = asked.build::<Empty<&[u8]>>().map(drop).unwrap_err();
            assert!(matches!(error, InvalidConfig::NoTls(named) if named == knob), "{error}");
            assert!(error.to_string().contains("`tls-ring`"), "{error}");
        }
        assert!(builder().build::<Empty<&[u8]>>().is_ok(), "plain http works");
    }
}
