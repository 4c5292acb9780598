//! Redirects between `https` and `http`, and HTTP/2.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use buttress_http::{
    ApiClient, Body, HttpClient,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use buttress_testkit::{Reply, Upstream};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{builder, get, soon};

fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "tls-ring")]
    return Arc::new(buttress_http::rustls::crypto::ring::default_provider());
    #[cfg(all(feature = "tls-aws-lc-rs", not(feature = "tls-ring")))]
    return Arc::new(buttress_http::rustls::crypto::aws_lc_rs::default_provider());
}

/// An HTTPS server for `localhost` that redirects to where `x-redirect` says, or tells which credentials it saw.
async fn https() -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let serving = auto::Builder::new(TokioExecutor::new());
                // A client that goes away is no failure of the test.
                let _ = serving.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    (addr, certificate)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let seen = ["authorization", "x-api-key"].map(|name| request.headers().contains_key(name));
    let answer = Response::builder();
    let (answer, body) = match request.headers().get("x-redirect") {
        Some(location) => (answer.status(302).header("location", location), String::new()),
        None => (answer, format!("{seen:?}")),
    };
    Ok(answer.body(Full::from(body)).unwrap())
}

fn client(base: String, certificate: CertificateDer<'static>) -> ApiClient {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let http = HttpClient::builder().tls_config(config).build::<Body>().unwrap();
    builder(base).bearer("hunter2").credential_header("x-api-key", "hunter2").build(http).unwrap()
}

#[tokio::test]
async fn nothing_goes_from_https_to_http() {
    let (addr, certificate) = https().await;
    let plain = Upstream::start().await;
    plain.on("/a", Reply::ok("plain"));
    let client = client(format!("https://localhost:{}", addr.port()), certificate);
    let location = format!("{}/a", plain.url());
    let answer = soon(client.get("/").header("x-redirect", location).send()).await.unwrap();
    assert_eq!(answer.status(), 302);
    let answer = get(&client, "/").await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "[true, true]");
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn credentials_do_not_go_from_http_to_https_either() {
    let (addr, certificate) = https().await;
    let plain = Upstream::start().await;
    let target = format!("https://localhost:{}/a", addr.port());
    plain.on("/a", Reply::status(301).header("location", &target));
    let client = client(plain.url(), certificate);
    let answer = get(&client, "/a").await.unwrap();
    assert_eq!(answer.url().to_string(), target);
    assert_eq!(answer.text().await.unwrap(), "[false, false]");
    assert_eq!(plain.requests()[0].headers["x-api-key"], "hunter2");
}
