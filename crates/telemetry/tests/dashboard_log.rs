//! What the dashboard writes into the log.

#![cfg(feature = "dashboard")]

#[path = "dashboard/world.rs"]
#[expect(dead_code, reason = "the other tests need the rest")]
mod world;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use buttress_telemetry::{Dashboard, Registry};
use http::StatusCode;
use tower::layer::util::Identity;
use tracing_subscriber::fmt::MakeWriter;

use self::world::{Lever, act, ask};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_says_where_it_is_who_reaches_it_and_what_was_done() {
    let log = Log::default();
    tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).init();
    let (registry, lever) = (Registry::new(), Lever::new("one"));
    registry.register(&lever).unwrap();

    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    let serving = Dashboard::builder(&registry).address(any).build().unwrap().serve().await.unwrap();
    let said = log.take();
    assert!(
        said.contains("INFO") && said.contains(&format!("http://{}/ (read-only)", serving.address())),
        "{said}"
    );
    assert!(said.contains("loopback only"), "{said}");
    let taken = Dashboard::builder(&registry).address(serving.address()).build().unwrap().serve().await;
    assert!(taken.unwrap_err().to_string().contains("give it another"));

    let everywhere: std::net::SocketAddr = ([0, 0, 0, 0], 0).into();
    let open = Dashboard::builder(&registry).address(everywhere).allow_control(Identity::new());
    let dashboard = open.build().unwrap();
    let _serving = dashboard.serve().await.unwrap();
    let said = log.take();
    assert!(said.contains("WARN") && said.contains("whoever reaches this address sees it"), "{said}");
    assert!(said.contains("who is authorised may act"), "{said}");

    let router = dashboard.router();
    assert_eq!(ask(&router, act("force")).await.status(), StatusCode::OK);
    let said = log.take();
    for word in
        ["WARN", r#"layer="lever""#, r#"name="one""#, r#"action="force""#, "status=200", "an operator acted"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    // A line break in what was sent does not make a line of the log.
    assert_eq!(
        ask(&router, act("a\\nWARN forged \\u001b[31m")).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let said = log.take();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains('\u{1b}') && said.contains("status=422"), "{said}");
    let mut foreign = act("force");
    foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(ask(&router, foreign).await.status(), StatusCode::FORBIDDEN);
    assert!(log.take().contains("did not come from its page"));
    assert_eq!(lever.forced(), 1);
}
