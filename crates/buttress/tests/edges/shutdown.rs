use std::{sync::Arc, time::Duration};

use buttress::{
    Config, Error, System,
    core::{Reason, Rejectable},
    postgres::{InsertBatch, Query},
};
use buttress_testkit::{Fault, FaultProxy, RedisServer, Reply, TestDatabase, Upstream};

fn config(toml: &str) -> Config {
    Config::from_toml(toml).expect("a configuration")
}

fn of_database(database: &TestDatabase) -> Config {
    config(&format!("[database]\nurl = {:?}\npool_size = 2\nmax_overflow = 0", database.url()))
}

#[tokio::test]
async fn a_row_that_was_gathered_is_written_and_later_ones_are_refused() {
    let database = TestDatabase::new().await;
    let system = System::start(of_database(&database)).await.unwrap();
    system.execute(Query::new("create table t (n bigint)")).await.unwrap();
    let db = system.database().unwrap();
    let insert = InsertBatch::builder("t").column("n", |n: &i64| n).build(db.client()).unwrap();
    let batch = Arc::new(db.batch("rows", insert));
    // One statement is held up by a lock, the others wait behind it.
    let client = system.database().unwrap().client().clone();
    let (locked, free) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (told, may) = (Arc::clone(&locked), Arc::clone(&free));
    let lock = tokio::spawn(async move {
        let work = async |tx: &buttress::postgres::Transaction<'_>| {
            tx.query(Query::new("lock table t in access exclusive mode")).await?;
            told.notify_one();
            may.notified().await;
            Ok::<_, buttress::postgres::Error>(())
        };
        client.transaction(work).await.unwrap();
    });
    locked.notified().await;
    let rows: Vec<_> = (0..20_i64)
        .map(|n| {
            let batch = Arc::clone(&batch);
            tokio::spawn(async move { batch.call(n).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let other = system.clone();
    let shutdown = tokio::spawn(async move { other.shutdown(Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = batch.call(99);
    free.notify_one();
    let error = tokio::time::timeout(Duration::from_secs(5), late).await.unwrap().unwrap_err();
    assert_eq!(error.rejected().map(buttress::core::Rejected::reason), Some(Reason::Closed), "{error}");
    for row in rows {
        row.await.unwrap().unwrap();
    }
    lock.await.unwrap();
    let report = shutdown.await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn an_idle_system_ends_clean_without_any_time() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let file = format!("[database]\nurl = {:?}\n[redis]\nurl = {:?}", database.url(), redis.url());
    let system = System::start(config(&file)).await.unwrap();
    system.query(Query::new("select 1")).await.unwrap();
    let report = system.shutdown(Duration::ZERO).await;
    assert!(report.is_clean(), "{report}");
    let report = system.shutdown(Duration::MAX).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_dead_database_does_not_hold_up_the_end() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.addr()).await;
    let url = database.url().replace(&database.addr().to_string(), &proxy.addr().to_string());
    assert!(url.contains(&proxy.port().to_string()), "{url}");
    let file = format!("health.interval = \"100ms\"\n[database]\nurl = {url:?}");
    let system = System::start(config(&file)).await.unwrap();
    proxy.set(Fault::BlackHole);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let other = system.clone();
    let call = tokio::spawn(async move { other.query(Query::new("select 1")).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = tokio::time::timeout(Duration::from_secs(3), system.shutdown(Duration::from_secs(1))).await;
    let report = report.expect("it ends in time");
    assert_eq!(report.calls, 1, "{report}");
    call.abort();
}

#[tokio::test]
async fn after_the_end_nothing_listens_and_nothing_is_connected() {
    let redis = RedisServer::start().await;
    let file = format!(
        "telemetry.dashboard = \"127.0.0.1:0\"\n[redis]\nurl = {:?}\n[cache]\nshared = true",
        redis.url()
    );
    let system = System::start(config(&file)).await.unwrap();
    let page = system.dashboard().unwrap();
    system.shutdown(Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The system itself is still held, as by a handler.
    assert_eq!(connections(&redis).await, 0);
    tokio::net::TcpStream::connect(page).await.expect_err("the page is closed");
    drop(system);
}

#[tokio::test]
async fn a_system_that_is_dropped_leaves_no_task() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let file = format!(
        "telemetry.dashboard = \"127.0.0.1:0\"\n[database]\nurl = {:?}\n[redis]\nurl = {:?}\n[cache]\nshared = true\n[http.a]\nbase_url = \"http://127.0.0.1:1\"",
        database.url(),
        redis.url()
    );
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let system = System::start(config(&file)).await.unwrap();
    system.query(Query::new("select 1")).await.unwrap();
    drop(system);
    let mut after = usize::MAX;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if after <= before {
            break;
        }
    }
    assert_eq!(connections(&redis).await, 0);
    assert_eq!(after, before);
}

/// How many there are beside the one that asks.
pub(super) async fn connections(redis: &RedisServer) -> usize {
    let system =
        System::start(config(&format!("[redis]\nurl = {:?}\npool_size = 1", redis.url()))).await.unwrap();
    let command = buttress::redis::Command::new("CLIENT").arg("LIST");
    let list = system.redis().unwrap().send(command).await.unwrap();
    let count = format!("{list:?}").matches("addr=").count() / 2;
    system.shutdown(Duration::from_secs(1)).await;
    count - 1
}

#[tokio::test]
async fn whoever_begins_at_the_end_is_served_or_refused() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("here"));
    let file = format!("[http.a]\nbase_url = {:?}\nretry.retries = 0", upstream.url());
    for _ in 0..10 {
        let system = System::start(config(&file)).await.unwrap();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let system = system.clone();
                tokio::spawn(async move { system.http("a").unwrap().get("/").send().await?.text().await })
            })
            .collect();
        tokio::task::yield_now().await;
        let report = system.shutdown(Duration::from_secs(5)).await;
        assert!(report.is_clean(), "{report}");
        for call in calls {
            if let Err(error) = call.await.unwrap().map_err(Error::from) {
                assert_eq!(error.rejected().map(buttress::core::Rejected::reason), Some(Reason::Closed));
                assert!(!error.sent(), "{error}");
            }
        }
    }
}

/// Either a reload comes too late, or what it brings is closed as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_amid_the_end_leaves_no_client_open() {
    let many: String = (0..60).map(|n| format!("[http.a{n}]\nbase_url = \"http://127.0.0.1:1\"\n")).collect();
    for pause in [1, 3, 10] {
        let (system, many) = (System::start(config("")).await.unwrap(), config(&many));
        let other = system.clone();
        let reload = tokio::task::spawn_blocking(move || other.reload(many));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        system.shutdown(Duration::from_secs(1)).await;
        if reload.await.unwrap().is_err() {
            continue;
        }
        for n in 0..60 {
            let mut client = system.http_service(&format!("a{n}")).unwrap().client().clone();
            let request =
                http::Request::get("http://127.0.0.1:1").body(buttress::http::Body::empty()).unwrap();
            let error = tower::ServiceExt::ready(&mut client).await.unwrap();
            let error = tower::Service::call(error, request).await.map(drop).unwrap_err();
            assert_eq!(
                error.rejected().map(buttress::core::Rejected::reason),
                Some(Reason::Closed),
                "{error}"
            );
        }
    }
}
