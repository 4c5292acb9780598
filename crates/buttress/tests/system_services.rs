//! The parts as plain services: layers of one's own around them, dropped calls, panics, what counts as a failure.
#![cfg(feature = "system")]

mod system_support;

use std::{panic::AssertUnwindSafe, time::Duration};

use buttress::{
    CommandFuture, Database, Error, HttpService, QueryFuture, Redis, RequestFuture, System, config,
    core::{Deadline, Reason, Rejectable},
    postgres::{self, InsertBatch, Query},
    redis::Command,
};
use buttress_testkit::{FaultProxy, PostgresServer, RedisServer, Reply, TestDatabase};
use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

use self::system_support::{
    MS, Observer, PATIENCE, api, start, until, with_cache, with_database, with_http, with_redis,
};

fn refused_by(error: &impl Rejectable) -> Option<Reason> {
    error.rejected().map(buttress::core::Rejected::reason)
}

#[tokio::test]
async fn the_parts_are_services_to_put_layers_around() {
    let (test, server, upstream) = (TestDatabase::new().await, RedisServer::start().await, api().await);
    let mut config = with_database(test.url());
    config.redis = with_redis(server.url()).redis;
    config.http = with_http(upstream.url()).http;
    let system = start(config).await;

    let database = system.database().unwrap().clone();
    let database = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .map_request(|id: i64| Query::new("select :id::int8 as id").bind("id", id))
        .concurrency_limit(2)
        .service(database);
    let answers = join_all((0..8).map(|id| database.clone().oneshot(id))).await;
    for (id, rows) in (0..).zip(answers) {
        assert_eq!(rows.unwrap().one().unwrap().get::<i64>("id").unwrap(), id);
    }

    let redis = system.redis().unwrap().clone();
    let mut redis = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .map_request(|key: &'static str| Command::incr(key))
        .concurrency_limit(1)
        .service(redis);
    for n in 1..=3 {
        let value = redis.ready().await.unwrap().call("n").await.unwrap();
        assert_eq!(value.convert::<i64>().unwrap(), n);
    }

    let url = upstream.url() + "/";
    let http = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .map_request(move |()| http::Request::get(&*url).body(buttress::http::Body::default()).unwrap())
        .service(system.http_service("stock").unwrap());
    assert_eq!(http.oneshot(()).await.unwrap().status(), 200);

    // What went that way is counted as any other call.
    let stats = system.stats();
    let calls = |name: &str| stats.calls.iter().find(|calls| calls.name == name).unwrap().calls;
    assert_eq!((calls("database"), calls("redis"), calls("http.stock")), (8, 3, 1));
}

#[test]
fn futures_and_handles_are_send() {
    fn is<T: Send + Sync + 'static>() {}
    fn sends<T: Send>(_: impl FnOnce(System) -> T) {}

    is::<System>();
    is::<Database>();
    is::<Redis>();
    is::<HttpService>();
    is::<buttress::Cache>();
    is::<Error>();
    fn future<T: Send + 'static>() {}
    future::<QueryFuture>();
    future::<CommandFuture>();
    future::<RequestFuture>();
    sends(|system| async move { system.query(Query::new("select 1")).await });
    sends(|system| async move { system.query_as::<(i64,)>(Query::new("select 1")).await });
    sends(|system| async move {
        let work = async |tx: &postgres::Transaction<'_>| Ok::<_, Error>(tx.query(Query::new("")).await?);
        system.transaction(work).await
    });
    sends(|system| async move {
        let load = async || Ok::<_, Error>(system.query(Query::new("")).await?.affected());
        system.cache()?.get_or_load("a", load).await
    });
    sends(|system| async move { system.cache()?.set("a", &1).await });
    sends(|system| async move { system.http("a")?.get("/").send().await.map_err(Error::from) });
    sends(|system| async move { system.shutdown(PATIENCE).await });
    sends(|_| System::start(buttress::Config::default()));
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_on_the_server() {
    let test = TestDatabase::new().await;
    let (system, observer) = (start(with_database(test.url())).await, Observer::of(&test));
    for as_service in [false, true] {
        let slow = Query::new("select pg_sleep(60)");
        let call = async {
            match as_service {
                true => system.database().unwrap().clone().oneshot(slow).await.map_err(Error::from),
                false => system.query(slow).await,
            }
        };
        let mut call = Box::pin(call);
        let runs = async { until("it runs", async || observer.sleeping().await == 1).await };
        tokio::select! {
            ended = &mut call => panic!("{ended:?}"),
            () = runs => {}
        }
        drop(call);
        until("it is cancelled", async || observer.sleeping().await == 0).await;
    }
    system.query(Query::new("select 1")).await.unwrap();
    let stats = system.stats();
    assert_eq!(stats.calls.iter().find(|calls| calls.name == "database").unwrap().in_flight, 0);
}

#[tokio::test]
async fn a_panic_in_a_transaction_undoes_it_and_harms_nothing_else() {
    let test = TestDatabase::new().await;
    let mut config = with_database(test.url());
    // One place for everything: what a panic kept would be missed.
    let database = config.database.as_mut().unwrap();
    (database.pool_size, database.max_overflow) = (1, 0);
    database.bulkhead = Some(config::Bulkhead::new(1));
    database.circuit_breaker.failures = 100;
    let system = start(config).await;
    system.execute(Query::new("create table t (id bigint)")).await.unwrap();
    for _ in 0..3 {
        let panics = system.transaction(async |tx| {
            tx.query(Query::new("insert into t values (1)")).await?;
            if tx.query(Query::new("select 1")).await?.len() == 1 {
                panic!("a slip");
            }
            Ok::<(), Error>(())
        });
        AssertUnwindSafe(panics).catch_unwind().await.unwrap_err();
    }
    let work = async |tx: &postgres::Transaction<'_>| {
        let row = tx.query(Query::new("select count(*) from t")).await?.one()?;
        Ok::<i64, Error>(row.get(0)?)
    };
    assert_eq!(system.transaction(work).await.unwrap(), 0);
    assert!(system.shutdown(PATIENCE).await.is_clean());
}

#[tokio::test]
async fn a_closure_of_its_own_error_says_nothing_of_the_database() {
    #[derive(Debug)]
    struct TooLittleMoney;

    impl From<Error> for TooLittleMoney {
        fn from(error: Error) -> Self {
            panic!("{error}")
        }
    }

    let server = PostgresServer::start().await;
    let mut config = with_database(server.url());
    config.database.as_mut().unwrap().circuit_breaker.failures = 3;
    config.database.as_mut().unwrap().connect_timeout = Duration::from_secs(1);
    config.database.as_mut().unwrap().retry.retries = 0;
    let system = start(config).await;
    // The breaker hears of the health's questions too: the next is 9 s away then.
    system.health().wait_ready(Duration::from_secs(10)).await.unwrap();
    for _ in 0..10 {
        let poor = system.transaction(async |_| Err::<(), _>(TooLittleMoney)).await;
        assert!(matches!(poor, Err(TooLittleMoney)));
    }
    // A constraint that is violated is the caller's, too.
    let wrong =
        async |tx: &postgres::Transaction<'_>| Ok::<_, Error>(tx.query(Query::new("select 1 / 0")).await?);
    for _ in 0..10 {
        assert!(matches!(system.transaction(wrong).await, Err(Error::Database(_))));
    }
    system.query(Query::new("select 1")).await.unwrap();

    server.kill().await;
    let work = async |tx: &postgres::Transaction<'_>| Ok::<_, Error>(tx.query(Query::new("select 1")).await?);
    let mut failed = 0;
    let refusal = loop {
        let error = system.transaction(work).await.unwrap_err();
        if refused_by(&error) == Some(Reason::CircuitOpen) {
            break error;
        }
        failed += 1;
        assert!(failed <= 3, "{error}");
    };
    assert_eq!(failed, 3);
    // The breaker is that of the queries, too.
    let query = system.query(Query::new("select 1")).await.unwrap_err();
    assert_eq!(refused_by(&query), refused_by(&refusal));
}

#[tokio::test]
async fn the_time_of_a_transaction_is_limited() {
    let test = TestDatabase::new().await;
    let mut config = with_database(test.url());
    config.database.as_mut().unwrap().timeout = 200 * MS;
    config.database.as_mut().unwrap().pool_size = 1;
    config.database.as_mut().unwrap().max_overflow = 0;
    let system = start(config).await;
    let began = Instant::now();
    let slow = async |tx: &postgres::Transaction<'_>| {
        Ok::<_, Error>(tx.query(Query::new("select pg_sleep(60)")).await?)
    };
    let error = system.transaction(slow).await.unwrap_err();
    assert_eq!(refused_by(&error), Some(Reason::DeadlineExceeded));
    // Also where the closure waits for something else.
    let elsewhere = system.transaction(async |_| {
        sleep(PATIENCE).await;
        Ok::<(), Error>(())
    });
    assert_eq!(refused_by(&elsewhere.await.unwrap_err()), Some(Reason::DeadlineExceeded));
    assert!(began.elapsed() < PATIENCE / 2);
    system.query(Query::new("select 1")).await.unwrap();
}

#[tokio::test]
async fn the_callers_deadline_holds_for_all_parts() {
    let (test, server, upstream) = (TestDatabase::new().await, RedisServer::start().await, api().await);
    upstream.on("/never", Reply::never());
    let proxy = FaultProxy::start(server.addr()).await;
    let mut config = with_database(test.url());
    config.redis = with_redis(format!("redis://{}", proxy.addr())).redis;
    config.http = with_http(upstream.url()).http;
    let system = start(with_cache(config, false)).await;
    proxy.set(buttress_testkit::Fault::BlackHole);
    let deadline = || Deadline::after(100 * MS);
    let began = Instant::now();
    let query = deadline().scope(system.query(Query::new("select pg_sleep(60)"))).await.unwrap_err();
    let command = deadline().scope(system.redis().unwrap().send(Command::get("a"))).await.unwrap_err();
    let api = system.http("stock").unwrap();
    let request = deadline().scope(async { api.get("/never").send().await }).await.unwrap_err();
    for reason in [refused_by(&query), refused_by(&command), refused_by(&request)] {
        assert_eq!(reason, Some(Reason::DeadlineExceeded));
    }
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
}

#[derive(Clone)]
struct Event {
    id: i64,
}

#[tokio::test]
async fn rows_that_come_one_by_one_are_gathered() {
    let test = TestDatabase::new().await;
    let system = start(with_database(test.url())).await;
    system.execute(Query::new("create table events (id bigint primary key check (id <> 13))")).await.unwrap();
    let database = system.database().unwrap();
    let insert = InsertBatch::builder("events").column("id", |event: &Event| &event.id);
    let events = database.batch("events", insert.build(database.client()).unwrap());

    let results = join_all((0..200).map(|id| events.call(Event { id }))).await;
    for (id, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), id != 13, "{id}: {result:?}");
    }
    let rows = system.query(Query::new("select count(*) from events")).await.unwrap();
    assert_eq!(rows.one().unwrap().get::<i64>(0).unwrap(), 199);
    // One that is refused splits its batch by halves: some twenty statements, not two hundred.
    let stats = system.stats();
    let inserts = stats.calls.iter().find(|calls| calls.name == "database inserts").unwrap().calls;
    assert!((2..50).contains(&inserts), "{inserts}");
}

#[tokio::test]
async fn rows_are_refused_after_the_shutdown_and_those_before_are_written() {
    let test = TestDatabase::new().await;
    let mut config = with_database(test.url());
    // One statement at a time: the rows behind it have no connection yet.
    config.database.as_mut().unwrap().pool_size = 1;
    config.database.as_mut().unwrap().max_overflow = 0;
    let (system, observer) = (start(config).await, Observer::of(&test));
    system.execute(Query::new("create table events (id bigint primary key)")).await.unwrap();
    // Each statement takes a while.
    let sql = "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.3); return null; end'";
    system.execute(Query::new(sql)).await.unwrap();
    let sql = "create trigger slow after insert on events for each statement execute function slow()";
    system.execute(Query::new(sql)).await.unwrap();
    let database = system.database().unwrap();
    let insert = InsertBatch::builder("events").column("id", |event: &Event| &event.id);
    let events = database.batch("events", insert.build(database.client()).unwrap());

    let writing = (0..20).map(|id| {
        let events = events.clone();
        tokio::spawn(async move { events.call(Event { id }).await })
    });
    let writing: Vec<_> = writing.collect();
    // The first statement is on its way, and the others wait behind it.
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active'
        and application_name = 'app' and query like '%events%'";
    until("a statement runs", async || observer.number(sql).await > 0).await;
    let report = system.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report}");
    for row in writing {
        assert!(row.is_finished(), "the shutdown waited for it");
        row.await.unwrap().unwrap();
    }
    assert_eq!(observer.number("select count(*) from events").await, 20);
    let late = timeout(PATIENCE, events.call(Event { id: 99 })).await.unwrap().unwrap_err();
    assert_eq!(refused_by(&late), Some(Reason::Closed));
    assert!(late.to_string().contains("system `app`"), "{late}");
}
