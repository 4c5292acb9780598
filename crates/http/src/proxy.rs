use std::{
    error::Error as StdError,
    ffi::OsString,
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::BoxError;
use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use crate::{
    builder::{Builder, InvalidConfig},
    connect::timed_out,
    dial::{Dialed, Dialing},
    error::root,
    peer::Peer,
};

/// The proxies that a client goes through, for [`Builder::proxy`].
///
/// A URL is `scheme://user:password@host:port`, with `user:password@` where the proxy asks for it, percent-encoded, and
/// never shown by `Debug` or in an error. By the scheme:
///
/// | scheme | what it speaks | port, where none is given |
/// |---|---|---|
/// | `http`, or none | HTTP: a tunnel (`CONNECT`) for `https`, forwarding for `http` | 80 |
/// | `https` | the same, over TLS to the proxy | 443 |
/// | `socks5` | SOCKS 5; names are resolved here | 1080 |
/// | `socks5h` | SOCKS 5; names are resolved by the proxy | 1080 |
#[derive(Clone, Default)]
pub struct Proxy {
    all: String,
    http: String,
    https: String,
    no: String,
}

impl Proxy {
    /// One proxy for `http` and `https`.
    ///
    /// # Errors
    /// If that is no URL of a proxy that can be used.
    pub fn all(url: impl Into<String>) -> Result<Self, InvalidProxy> {
        let all = url.into();
        check(&all).map_err(|why| InvalidProxy { variable: None, why })?;
        Ok(Self { all, ..Self::default() })
    }

    /// Goes directly to these hosts, separated by commas: names, each with its subdomains; addresses and networks
    /// (`10.0.0.0/8`); or `*`, which is every host. What curl understands as `NO_PROXY`.
    #[must_use]
    pub fn except(mut self, hosts: impl Into<String>) -> Self {
        self.no = hosts.into();
        self
    }

    /// As the environment says now: `HTTP_PROXY`, `HTTPS_PROXY`, for both `ALL_PROXY`, and `NO_PROXY`, or the same in
    /// small letters. None at all in a CGI program (`REQUEST_METHOD` is set), where a client can set `HTTP_PROXY` by a
    /// header.
    ///
    /// # Errors
    /// If one of them is no URL of a proxy that can be used. The error names the variable.
    pub fn from_env() -> Result<Self, InvalidProxy> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, InvalidProxy> {
        if variable("REQUEST_METHOD").is_some() {
            return Ok(Self::default());
        }
        let first = |names: [&'static str; 2]| -> Result<(&'static str, String), InvalidProxy> {
            let Some((name, value)) =
                names.into_iter().find_map(|name| variable(name).map(|value| (name, value)))
            else {
                return Ok((names[0], String::new()));
            };
            let invalid = |_| InvalidProxy { variable: Some(name), why: "it is not UTF-8" };
            Ok((name, value.into_string().map_err(invalid)?))
        };
        let url = |names| {
            let (name, url) = first(names)?;
            if !url.is_empty() {
                check(&url).map_err(|why| InvalidProxy { variable: Some(name), why })?;
            }
            Ok(url)
        };
        Ok(Self {
            all: url(["ALL_PROXY", "all_proxy"])?,
            http: url(["HTTP_PROXY", "http_proxy"])?,
            https: url(["HTTPS_PROXY", "https_proxy"])?,
            no: first(["NO_PROXY", "no_proxy"])?.1,
        })
    }

    pub(crate) fn matcher(&self) -> Matcher {
        Matcher::builder().all(&self.all).http(&self.http).https(&self.https).no(&self.no).build()
    }

    pub(crate) fn dialer(
        &self,
        tcp: HttpConnector,
        tls: Option<&ClientConfig>,
    ) -> Result<Dialer, InvalidConfig> {
        let over_tls = [&self.all, &self.http, &self.https].into_iter().any(|url| {
            intercept(url).is_some_and(|intercept| intercept.uri().scheme() == Some(&Scheme::HTTPS))
        });
        let tls = match tls {
            None if over_tls => return Err(InvalidConfig::NoTls("an https proxy")),
            Some(config) if over_tls => {
                let mut config = config.clone();
                // It is spoken to before anything could be negotiated, and the certificate is meant for servers.
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                config.client_auth_cert_resolver = Arc::new(NoCertificate);
                Some(HttpsConnector::from((tcp.clone(), config)))
            }
            _ => None,
        };
        Ok(Dialer { matcher: Arc::new(self.matcher()), to_proxy: ToProxy { tcp, tls } })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It shows hosts and ports, and no credentials.
        self.matcher().fmt(f)
    }
}

impl Builder {
    /// Connects through proxies. There are none by default; the environment is asked only by [`Proxy::from_env`].
    ///
    /// What an `http` URL asks for can be read by the proxy, which is told the whole URL. It excludes
    /// [`connect_to`](Self::connect_to). A proxy that cannot be reached, or refuses, gives
    /// [`Error::Connect`](crate::Error::Connect), which says which it was; one that answers an `http` request by itself
    /// (407, 502) gives that answer.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.dial.proxy = Some(proxy);
        self
    }
}

/// Why a [`Proxy`] cannot be made. It does not show the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidProxy {
    variable: Option<&'static str>,
    why: &'static str,
}

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variable {
            Some(variable) => write!(f, "no proxy by the variable `{variable}`: {}", self.why),
            None => write!(f, "no proxy: {}", self.why),
        }
    }
}

impl StdError for InvalidProxy {}

/// What hyper-util understands of a URL.
fn intercept(url: &str) -> Option<Intercept> {
    Matcher::builder().all(url).build().intercept(&Uri::from_static("http://any/"))
}

fn check(url: &str) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "its URL is malformed")?;
    if uri.host().is_none_or(str::is_empty) {
        return Err("its URL names no host");
    }
    if !matches!(uri.scheme_str(), None | Some("http" | "https" | "socks5" | "socks5h")) {
        return Err("the scheme of its URL must be http, https, socks5 or socks5h");
    }
    let intercept = intercept(url).ok_or("its URL is malformed")?;
    if intercept.raw_auth().is_some_and(|(user, password)| user.len().max(password.len()) > 255) {
        return Err("SOCKS takes at most 255 bytes of a user's name and of a password");
    }
    Ok(())
}

/// What goes to a proxy with a request that it forwards. A tunnel's is said when it is made.
pub(crate) fn authorization(matcher: &Matcher, to: &Uri) -> Option<HeaderValue> {
    if to.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    matcher.intercept(to)?.basic_auth().cloned()
}

#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    matcher: Arc<Matcher>,
    to_proxy: ToProxy,
}

impl Dialer {
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.to_proxy.poll_ready(cx)
    }

    pub(crate) fn call(&mut self, to: Uri) -> Dialing {
        let mut to_proxy = self.to_proxy.clone();
        let Some(proxy) = self.matcher.intercept(&to) else {
            return Box::pin(async move {
                Ok(Dialed::by_proxy(MaybeHttpsStream::Http(to_proxy.tcp.call(to).await?), false))
            });
        };
        Box::pin(async move {
            let dialed = by(&proxy, to, to_proxy).await;
            dialed.map_err(|error| match timed_out(&*error) {
                true => error,
                false => ProxyFailure { proxy: Peer::of(proxy.uri()), why: root(&*error).to_string() }.into(),
            })
        })
    }
}

async fn by(proxy: &Intercept, to: Uri, mut to_proxy: ToProxy) -> Result<Dialed, BoxError> {
    let plain = to.scheme() == Some(&Scheme::HTTP);
    match proxy.uri().scheme_str() {
        Some(socks @ ("socks5" | "socks5h")) => {
            let to = with_port(&to, if plain { 80 } else { 443 })?;
            let to = if socks == "socks5" { resolved(&to).await? } else { to };
            let mut socks = SocksV5::new(with_port(proxy.uri(), 1080)?, to_proxy.tcp);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            Ok(Dialed::by_proxy(MaybeHttpsStream::Http(socks.call(to).await?), false))
        }
        _ if plain => Ok(Dialed::by_proxy(to_proxy.call(proxy.uri().clone()).await?, true)),
        _ => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            Ok(Dialed::by_proxy(tunnel.call(to).await?, false))
        }
    }
}

/// hyper-util's SOCKS would take 443 for whatever names no port.
fn with_port(uri: &Uri, default: u16) -> Result<Uri, http::Error> {
    let authority = match (uri.host(), uri.port()) {
        (Some(host), None) => format!("{host}:{default}"),
        _ => return Ok(uri.clone()),
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(authority)?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Ok(Uri::from_parts(parts)?)
}

/// The same with the first address of its host. hyper-util would resolve it and block its thread.
async fn resolved(uri: &Uri) -> Result<Uri, BoxError> {
    let authority = uri.authority().map_or("", Authority::as_str);
    let address = lookup_host(authority).await?.next();
    let address =
        address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(address.to_string())?);
    Ok(Uri::from_parts(parts)?)
}

#[derive(Debug, Clone)]
struct ToProxy {
    tcp: HttpConnector,
    /// There where a proxy's URL says `https`.
    tls: Option<HttpsConnector<HttpConnector>>,
}

impl Service<Uri> for ToProxy {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = <HttpsConnector<HttpConnector> as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match &mut self.tls {
            Some(tls) => tls.call(to),
            None => {
                let dialing = self.tcp.call(to);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(dialing.await?)) })
            }
        }
    }
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The way to the server failed at the proxy.
#[derive(Debug)]
struct ProxyFailure {
    proxy: Peer,
    why: String,
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by the proxy {}: {}", self.proxy, self.why)
    }
}

impl StdError for ProxyFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Proxy, InvalidProxy> {
        Proxy::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    fn by(variables: &[(&str, &str)], to: &str) -> Option<String> {
        let proxied = from(variables).unwrap().matcher().intercept(&to.parse().unwrap())?;
        Some(proxied.uri().to_string())
    }

    #[test]
    fn variables_mean_what_they_mean_to_curl() {
        let all = [
            ("ALL_PROXY", "socks5h://all"),
            ("http_proxy", "plain:3128"),
            ("NO_PROXY", ".internal,10.0.0.0/8"),
        ];
        assert_eq!(by(&all, "http://host/").as_deref(), Some("http://plain:3128/"));
        assert_eq!(by(&all, "https://host/").as_deref(), Some("socks5h://all/"));
        for direct in ["http://stock.internal/", "https://stock.internal/", "http://10.1.2.3/"] {
            assert_eq!(by(&all, direct), None, "{direct}");
        }
        assert_eq!(by(&[], "http://host/"), None);
        assert_eq!(by(&[("HTTP_PROXY", "")], "http://host/"), None);
        assert_eq!(by(&[("HTTPS_PROXY", "https://secure")], "http://host/"), None);
        assert_eq!(by(&[("HTTP_PROXY", "plain"), ("REQUEST_METHOD", "GET")], "http://host/"), None);
    }

    #[test]
    fn a_variable_that_is_no_proxy_is_named_and_its_value_is_not_shown() {
        let error = from(&[("HTTPS_PROXY", "ftp://alice:hunter2@host")]).unwrap_err();
        let sentence = "no proxy by the variable `HTTPS_PROXY`: the scheme of its URL must be http, https, socks5 or socks5h";
        assert_eq!(error.to_string(), sentence);
        assert!(!format!("{error:?}").contains("hunter2"));
        assert!(from(&[("all_proxy", "http://")]).unwrap_err().to_string().contains("`all_proxy`"));
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStringExt;

        let odd = |name: &str| (name == "NO_PROXY").then(|| OsString::from_vec(vec![0xff]));
        assert!(Proxy::from_variables(odd).unwrap_err().to_string().contains("`NO_PROXY`"));
    }
}
