//! The few words of Redis' protocol that starting servers takes.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A server that was paused would hold up whoever asks it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn ping(socket: &Path) -> io::Result<()> {
    let answer = ask(socket, &["PING"]).await?;
    if answer == "PONG" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Sends one command on a connection of its own. The answer is a status, a number or a text; an error that the server
/// answers with is an error.
pub(crate) async fn ask(socket: &Path, command: &[&str]) -> io::Result<String> {
    tokio::time::timeout(ANSWER_LIMIT, exchange(socket, command)).await?
}

async fn exchange(socket: &Path, command: &[&str]) -> io::Result<String> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" => {
            let length = rest.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::Error::other(format!("{} was answered with {}", command.join(" "), line.trim_end()))),
    }
}
