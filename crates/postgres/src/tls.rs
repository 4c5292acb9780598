//! How TLS is spoken. The rest of the crate has one type for it, with and without the features.

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(crate) use self::offered::{Tls, trusting, usual};
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(crate) use self::refused::{Tls, trusting, usual};

/// Whether there is a provider.
pub(crate) const OFFERED: bool = cfg!(any(feature = "tls-ring", feature = "tls-aws-lc-rs"));

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod offered {
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject},
    };
    use tokio_postgres::config::SslMode;
    use tokio_postgres_rustls::MakeRustlsConnect;

    use crate::{InvalidConfig, PostgresConfig};

    pub(crate) type Tls = MakeRustlsConnect;

    impl PostgresConfig {
        /// How TLS is spoken: with roots of your own, a client certificate, other versions. It takes the place of Mozilla's
        /// roots and of the URL's `sslrootcert`. Where the URL says nothing of TLS, it is required then; `sslmode=disable`
        /// and `sslmode=prefer` keep their meaning.
        ///
        /// Build it by `ClientConfig::builder_with_provider`: `ClientConfig::builder()` panics where two providers are
        /// compiled in and none is installed for the process.
        ///
        /// ```no_run
        /// # #[cfg(feature = "tls-ring")]
        /// # fn f() -> Result<(), Box<dyn std::error::Error>> {
        /// use buttress_postgres::{PostgresConfig, rustls};
        /// use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        ///
        /// let mut roots = rustls::RootCertStore::empty();
        /// roots.add(CertificateDer::from_pem_file("/etc/app/ca.pem")?)?;
        /// let certificate = vec![CertificateDer::from_pem_file("/etc/app/client.pem")?];
        /// let key = PrivateKeyDer::from_pem_file("/etc/app/client.key")?;
        /// let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        ///     .with_safe_default_protocol_versions()?
        ///     .with_root_certificates(roots)
        ///     .with_client_auth_cert(certificate, key)?;
        /// let config = PostgresConfig::from_url("postgres://app@db.internal/users")?.with_tls(tls);
        /// # Ok(())
        /// # }
        /// ```
        #[must_use]
        pub fn with_tls(mut self, config: ClientConfig) -> Self {
            self.tls = speaking(config);
            if self.is_silent_about_tls {
                self.driver.ssl_mode(SslMode::Require);
            }
            self
        }
    }

    /// Mozilla's roots.
    pub(crate) fn usual() -> Tls {
        trusting_in(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// The certificates of a PEM file, and no others.
    pub(crate) fn trusting(path: &str) -> Result<Tls, InvalidConfig> {
        let wrong = |why: String| InvalidConfig::RootCertificates(format!("{path}: {why}").into());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
        Ok(trusting_in(roots))
    }

    /// The provider is named, never looked up in the process: `ClientConfig::builder()` panics where two are compiled in.
    /// With both features on it is aws-lc-rs. Features add up over a whole dependency graph, and whoever asked for
    /// aws-lc-rs (FIPS, post-quantum key exchange) must not lose it to a crate that is content with ring.
    fn trusting_in(roots: RootCertStore) -> Tls {
        #[cfg(feature = "tls-aws-lc-rs")]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        #[cfg(not(feature = "tls-aws-lc-rs"))]
        let provider = rustls::crypto::ring::default_provider();

        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("both providers have what the default versions need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        speaking(config)
    }

    /// Servers that are spoken to directly must be told the protocol; the others do not mind.
    fn speaking(mut config: ClientConfig) -> Tls {
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols.push(b"postgresql".to_vec());
        }
        MakeRustlsConnect::new(config)
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
mod refused {
    use tokio_postgres::{
        NoTls,
        tls::{MakeTlsConnect, NoTlsError, NoTlsStream},
    };

    use crate::InvalidConfig;

    /// Not the driver's own, which is `Copy`, as the other one is not.
    #[derive(Clone)]
    pub(crate) struct Tls;

    impl<S> MakeTlsConnect<S> for Tls {
        type Stream = NoTlsStream;
        type TlsConnect = NoTls;
        type Error = NoTlsError;

        fn make_tls_connect(&mut self, _: &str) -> Result<NoTls, NoTlsError> {
            Ok(NoTls)
        }
    }

    pub(crate) fn usual() -> Tls {
        Tls
    }

    pub(crate) fn trusting(_: &str) -> Result<Tls, InvalidConfig> {
        Err(InvalidConfig::Tls("sslrootcert"))
    }
}
