//! A client of HTTP/1.1 that tells exactly how far each request came.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Fate {
    Answered {
        status: u16,
        body: Value,
    },
    /// No connection: nobody listens any more. (A connection that ends before it is established is that, too.)
    Refused,
    /// The connection ended, and not a byte of an answer had come. So it may be repeated where nothing is done twice by that
    /// (RFC 9110, 9.2.2). `reused`: there was an answer on this connection before, and it did not say that it was the last.
    Unanswered {
        reused: bool,
    },
    /// Some of an answer came, or something that is none.
    Torn(String),
}

/// One connection at a time, kept for as long as the server keeps it.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufStream<TcpStream>>,
    is_reused: bool,
    /// Connections whose last answer said that it was the last.
    pub(crate) told: usize,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, is_reused: false, told: 0 }
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Fate {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => {
                    self.is_reused = false;
                    BufStream::new(stream)
                }
                Err(_) => return Fate::Refused,
            },
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // Where writing fails an answer may be there all the same.
        let _ = connection.write_all(request.as_bytes()).await;
        let _ = connection.flush().await;
        match read(&mut connection).await {
            Ok(Some((status, is_last, body))) => {
                if is_last {
                    self.told += 1;
                } else {
                    (self.connection, self.is_reused) = (Some(connection), true);
                }
                Fate::Answered { status, body }
            }
            Ok(None) => Fate::Unanswered { reused: self.is_reused },
            Err(why) => Fate::Torn(why),
        }
    }
}

/// `None`: not a byte of it came.
async fn read(connection: &mut BufStream<TcpStream>) -> Result<Option<(u16, bool, Value)>, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(format!("{error} after {:?}", String::from_utf8_lossy(&head))),
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status: {head}"))?;
    let length = field("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| format!("no length: {head}"))?];
    connection.read_exact(&mut body).await.map_err(|error| format!("{error} in the body of: {head}"))?;
    let body = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    Ok(Some((status, field("connection") == Some("close"), body)))
}
