//! What a hostile value makes of a request, seen on the raw connection.

use std::{net::SocketAddr, sync::LazyLock};

use buttress_http::{ApiClient, ApiError, IdempotencyKey};
use proptest::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::{builder, http};

/// Answers every request with its own head.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(reflect(stream));
        }
    });
    addr
}

async fn reflect(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while stream.read_until(b'\n', &mut head).await? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
            stream.write_all(&[length.as_bytes(), &head].concat()).await?;
            head.clear();
        }
    }
    Ok(())
}

static SERVED: LazyLock<(Runtime, ApiClient)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let addr = runtime.block_on(mirror());
    (runtime, builder(format!("http://{addr}/v1")).build(http()).unwrap())
});

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    plain
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("\n".to_owned()),
        Just("\0".to_owned()),
        Just("../".to_owned()),
        Just("..".to_owned()),
        Just("%2f".to_owned()),
        Just("%0d%0a".to_owned()),
        Just("/".to_owned()),
        Just("\\".to_owned()),
        Just("?a=b".to_owned()),
        Just("#".to_owned()),
        Just("{id}".to_owned()),
        Just("\u{e9}\u{2028}\u{10d}\u{10a}".to_owned()),
        Just("\r\nx-evil: 1".to_owned()),
        Just("\r\n\r\nGET /evil HTTP/1.1\r\n\r\n".to_owned()),
        "[ -~]{0,4}",
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_value_adds_a_segment_a_query_a_header_or_a_request(
        at in 0..7_usize,
        value in hostile(),
    ) {
        let (runtime, client) = &*SERVED;
        let request = client.get("/items/{id}/parts");
        let request = if at == 0 { request.param("id", &value) } else { request.param("id", 7) };
        let request = match at {
            1 => request.query(&[("q", &value)]),
            2 => request.query(&[(&value, "q")]),
            3 => request.header("x-a", &value),
            4 => request.bearer(&value),
            5 => request.basic(&value, &value),
            6 => match IdempotencyKey::try_new(&value) {
                Ok(key) => request.idempotency_key(key),
                Err(_) => return Ok(()),
            },
            _ => request,
        };
        let head = runtime.block_on(async { request.send().await?.bytes().await });
        let head = match head {
            Err(ApiError::Invalid(_)) => return Ok(()),
            head => String::from_utf8_lossy(&head.unwrap()).into_owned(),
        };
        let (first, rest) = head.split_once("\r\n").unwrap();
        let target = first.strip_prefix("GET /v1/items/").unwrap().strip_suffix(" HTTP/1.1").unwrap();
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{}", target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let id = path.strip_suffix("/parts").unwrap();
        prop_assert!(!id.contains('/'));
        prop_assert_eq!(query.is_empty(), at != 1 && at != 2);
        prop_assert!(!query.contains('&'));
        let (name, given) = query.split_once('=').unwrap_or_default();
        match at {
            0 => prop_assert_eq!(decoded(&id.replace('+', "%2B")), value.as_bytes()),
            1 => prop_assert_eq!((decoded(given), name), (value.into_bytes(), "q")),
            2 => prop_assert_eq!((decoded(name), given), (value.into_bytes(), "q")),
            _ => {}
        }
        let mut names: Vec<_> =
            rest.trim_end().split("\r\n").map(|line| line.split_once(':').unwrap().0).collect();
        names.retain(|name| !["host", "accept-encoding"].contains(name));
        let own = ["x-a", "authorization", "authorization", "idempotency-key"];
        let expected: Vec<_> = at.checked_sub(3).map(|at| own[at]).into_iter().collect();
        prop_assert_eq!(names, expected);
        prop_assert!(!rest.contains(['\0', '\r', '\n']) || rest.split("\r\n").all(|line| !line.contains(['\0', '\r', '\n'])));
    }
}
