//! TLS against a real server with a certificate authority of its own.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{net::SocketAddr, sync::Arc};

use buttress_core::Deadline;
use buttress_http::{
    Error, HttpClient,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{build, call, client, get, ms, server, text};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

fn providers() -> Vec<Arc<CryptoProvider>> {
    vec![
        #[cfg(feature = "tls-ring")]
        Arc::new(buttress_http::rustls::crypto::ring::default_provider()),
        #[cfg(feature = "tls-aws-lc-rs")]
        Arc::new(buttress_http::rustls::crypto::aws_lc_rs::default_provider()),
    ]
}

/// A client's configuration that trusts this authority alone.
fn trusting(authority: &CertificateDer<'static>) -> ClientConfig {
    trusting_by(authority, providers().remove(0))
}

fn trusting_by(authority: &CertificateDer<'static>, provider: Arc<CryptoProvider>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Accepts for `localhost`, with the authority that vouches for it.
fn acceptor(protocols: &[&[u8]]) -> (TlsAcceptor, CertificateDer<'static>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();

    let mut config = ServerConfig::builder_with_provider(providers().remove(0))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), authority.der().clone())
}

/// An HTTPS server for `localhost`, and the authority that vouches for it.
async fn https() -> (SocketAddr, CertificateDer<'static>) {
    let (acceptor, authority) = acceptor(&[b"h2", b"http/1.1"]);
    let addr = server(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await?;
            let hello = service_fn(async |_| {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello"))))
            });
            let serving = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no failure of the test.
            let _ = serving.serve_connection(TokioIo::new(stream), hello).await;
            Ok(())
        }
    })
    .await;
    (addr, authority)
}

fn url(addr: SocketAddr) -> String {
    format!("https://localhost:{}/", addr.port())
}

/// With every feature on, two providers are compiled in, and rustls itself would not know which to take.
#[tokio::test]
async fn regression_36_no_set_of_providers_panics_and_certificates_are_verified() {
    let (addr, authority) = https().await;
    let error = text(&client(), &url(addr)).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");

    for provider in providers() {
        let client = build(HttpClient::builder().tls_config(trusting_by(&authority, provider)));
        assert_eq!(text(&client, &url(addr)).await.unwrap(), "hello");
        assert_eq!(text(&client, &url(addr)).await.unwrap(), "hello");
        assert_eq!(client.connections().opened(), 1);
    }
    assert!(CryptoProvider::get_default().is_none(), "nothing was installed for the whole process");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let (addr, authority) = https().await;
    let client = build(HttpClient::builder().tls_config(trusting(&authority)));
    let error = text(&client, &format!("https://{addr}/")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn http2_is_negotiated_and_can_be_turned_off() {
    let (addr, authority) = https().await;
    for (http2, version) in [(true, Version::HTTP_2), (false, Version::HTTP_11)] {
        let config = trusting(&authority);
        let client = build(HttpClient::builder().http2(http2).tls_config(config));
        assert_eq!(call(&client, get(&url(addr))).await.unwrap().version(), version);
    }
}

/// RFC 9113, 8.7: such a request may be sent again whatever its method.
#[tokio::test]
async fn a_stream_that_the_server_refuses_was_not_sent() {
    let (acceptor, authority) = acceptor(&[b"h2"]);
    let addr = server(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut connection = h2::server::handshake(acceptor.accept(stream).await?).await.unwrap();
            let mut refused = false;
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                let reason = if refused { h2::Reason::INTERNAL_ERROR } else { h2::Reason::REFUSED_STREAM };
                answer.send_reset(reason);
                refused = true;
            }
            Ok(())
        }
    })
    .await;
    let client = build(HttpClient::builder().tls_config(trusting(&authority)));
    let refused = text(&client, &url(addr)).await.unwrap_err();
    assert!(matches!(refused, Error::Canceled { .. }) && !refused.sent(), "{refused:?}");
    let reset = text(&client, &url(addr)).await.unwrap_err();
    assert!(matches!(reset, Error::Closed { .. }) && reset.sent(), "{reset:?}");
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_ends_with_the_connect_timeout() {
    let addr = server(|stream, _| async move {
        tokio::time::sleep(ms(5000)).await;
        drop(stream);
        Ok(())
    })
    .await;
    let client = build(HttpClient::builder().connect_timeout(ms(150)));
    let start = Instant::now();
    let error = text(&client, &url(addr)).await.unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }) && !error.sent(), "{error:?}");
    assert!((ms(145)..ms(600)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_handshake_was_not_sent() {
    let addr = server(|stream, _| async move {
        tokio::time::sleep(ms(5000)).await;
        drop(stream);
        Ok(())
    })
    .await;
    let client = client();
    let error = Deadline::after(ms(150)).scope(text(&client, &url(addr))).await.unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { limit, .. } if limit <= ms(150)), "{error:?}");
    assert!(!error.sent());
}

#[tokio::test]
async fn plain_http_works_beside_tls() {
    let addr = server(|mut stream, _| async move {
        support::read_head(&mut stream).await?;
        support::answer(&mut stream, "plain").await
    })
    .await;
    assert_eq!(text(&client(), &format!("http://{addr}/")).await.unwrap(), "plain");
}
