//! Proxies for tests.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::{answer, server};

pub(crate) async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(stream.read_u8().await?.into());
    }
    Ok(head)
}

/// A server that answers with the head of the request.
pub(crate) async fn echo() -> SocketAddr {
    server(|mut stream, _| async move {
        loop {
            let head = head_of(&mut stream).await?;
            answer(&mut stream, &head).await?;
        }
    })
    .await
}

pub(crate) type Heads = Arc<Mutex<Vec<String>>>;

/// An HTTP proxy that sends everybody to `to`, and the heads that it was sent.
pub(crate) async fn http_proxy(to: SocketAddr, authorization: Option<&'static str>) -> (SocketAddr, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let addr = server(move |stream, _| serve_http(stream, to, authorization, Arc::clone(&seen))).await;
    (addr, heads)
}

pub(crate) async fn serve_http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    authorization: Option<&'static str>,
    heads: Heads,
) -> io::Result<()> {
    loop {
        let head = head_of(&mut stream).await?;
        heads.lock().unwrap().push(head.clone());
        let named = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
        });
        if named.as_deref() != authorization {
            stream
                .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                .await?;
            continue;
        }
        let mut upstream = TcpStream::connect(to).await?;
        if head.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            copy_bidirectional(&mut stream, &mut upstream).await?;
            return Ok(());
        }
        upstream.write_all(head.as_bytes()).await?;
        copy_bidirectional(&mut stream, &mut upstream).await?;
        return Ok(());
    }
}

/// Serves one SOCKS 5 connection (RFC 1928, 1929), and tells what address was asked for.
async fn serve_socks(
    mut stream: TcpStream,
    to: SocketAddr,
    login: Option<(&'static str, &'static str)>,
    asked: Heads,
) -> io::Result<()> {
    async fn counted(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; stream.read_u8().await?.into()];
        stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
    assert_eq!(stream.read_u8().await?, 5);
    let methods = counted(&mut stream).await?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    if let Some((user, password)) = login {
        assert_eq!(stream.read_u8().await?, 1);
        let given = (counted(&mut stream).await?, counted(&mut stream).await?);
        let accepted = given == (user.as_bytes().to_vec(), password.as_bytes().to_vec());
        stream.write_all(&[1, u8::from(!accepted)]).await?;
        if !accepted {
            return Ok(());
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0], "connect");
    let host = match request[3] {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            std::net::Ipv4Addr::from(octets).to_string()
        }
        3 => String::from_utf8(counted(&mut stream).await?).unwrap(),
        4 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            std::net::Ipv6Addr::from(octets).to_string()
        }
        other => panic!("an address of kind {other}"),
    };
    let port = stream.read_u16().await?;
    asked.lock().unwrap().push(format!("{host} {port}"));
    let mut upstream = TcpStream::connect(to).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut stream, &mut upstream).await?;
    Ok(())
}

pub(crate) async fn socks_proxy(
    to: SocketAddr,
    login: Option<(&'static str, &'static str)>,
) -> (SocketAddr, Heads) {
    let asked = Heads::default();
    let seen = Arc::clone(&asked);
    let addr = server(move |stream, _| serve_socks(stream, to, login, Arc::clone(&seen))).await;
    (addr, asked)
}
