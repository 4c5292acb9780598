//! What is seen of a system, and the programs that it is a part of.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use buttress::{
    Config, Error, System, config,
    core::{Reason, Rejectable},
    postgres::Query,
};
use buttress_testkit::{RedisServer, Reply, TestDatabase, Upstream};
use tokio::{net::TcpListener, time::sleep};

use super::{MS, PATIENCE, User, count, users, with_database};

// stats = system.get_performance_stats()
// print(stats["database"]["total_queries"], stats["http"]["success_rate"])
#[tokio::test]
async fn statistics() -> Result<(), Error> {
    let (test, upstream) = (TestDatabase::new().await, Upstream::start().await);
    upstream.on("/items", [Reply::ok("[]"), Reply::status(404)]);
    let mut config = with_database(&test);
    config.http.insert("stock".to_owned(), config::Http::new(upstream.url()));
    config.cache = Some(config::Cache::default());
    let system = System::start(config).await.unwrap();

    for _ in 0..3 {
        system.query(Query::new("select 1")).await?;
    }
    system.query(Query::new("select 1 / 0")).await.unwrap_err();
    for _ in 0..2 {
        let _ = system.http("stock")?.get("/items").send().await?;
    }
    for _ in 0..4 {
        system.cache()?.get_or_load("a", async || Ok::<u32, Error>(1)).await?;
    }

    let stats = system.stats();
    let calls = |name: &str| stats.calls.iter().find(|calls| calls.name == name).unwrap();
    assert_eq!((calls("database").calls, calls("database").in_flight), (4, 0));
    assert_eq!(calls("http.stock").calls, 2);
    assert!(calls("database").p95 > Some(0.0));
    let cache = stats.layers.iter().find(|layer| layer.layer == "cache").unwrap();
    assert_eq!(cache.hit_share, Some(0.75));

    let text = stats.to_string();
    assert!(text.contains("database: 4 calls"), "{text}");
    assert!(text.contains("http.stock: 2 calls"), "{text}");
    assert!(text.contains("75.0 % hits"), "{text}");
    Ok(())
}

// system = AsyncIOSystem(slow_query_threshold=0.05)
// for query in system.get_slow_queries(limit=10): print(query["sql"], query["duration"])
#[tokio::test]
async fn slow_queries() -> Result<(), Error> {
    let test = TestDatabase::new().await;
    let mut config = with_database(&test);
    config.database.as_mut().unwrap().slow_query = 50 * MS;
    let system = System::start(config).await.unwrap();

    system.query(Query::new("select 1")).await?;
    let slow = || Query::new("select pg_sleep(:seconds)").bind("seconds", 0.1_f64);
    system.query(slow()).await?;
    system.query(slow()).await?;
    system.query(Query::new("select pg_sleep(0.2)")).await?;

    let slow = system.slow_queries(10);
    let seen: Vec<_> = slow.iter().map(|query| (query.text(), query.count())).collect();
    // Values that stand in the text are not shown.
    assert_eq!(seen, [("select pg_sleep(?)", 1), ("select pg_sleep(:seconds)", 2)]);
    assert!(slow[0].worst() >= 200 * MS);
    assert_eq!(system.slow_queries(1).len(), 1);
    Ok(())
}

// health = await system.health_check()
// assert health["database"] == "healthy"
#[tokio::test]
async fn health() {
    let (test, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let mut config = with_database(&test);
    config.redis = Some(config::Redis::new(redis.url()));
    config.health.interval = 50 * MS;
    let system = System::start(config).await.unwrap();

    let report = system.health().wait_ready(PATIENCE).await.unwrap();
    assert!(report.is_live());
    let parts: Vec<&str> = report.parts().iter().map(|part| part.name).collect();
    assert_eq!(parts, ["database", "redis", "http"]);

    // Without Redis it can still serve, and says so.
    let is_well = || system.health().report().part("redis").unwrap().state == buttress::health::State::Up;
    let until = async |well: bool| {
        while is_well() != well {
            sleep(10 * MS).await;
        }
    };
    tokio::time::timeout(PATIENCE, until(true)).await.expect("Redis is up");
    redis.kill().await;
    tokio::time::timeout(PATIENCE, until(false)).await.expect("that Redis is down is seen");
    assert!(system.health().report().is_ready());
}

// @app.get("/users/{id}")
// async def user(id: int):
//     return await system.db.fetchrow("SELECT id, name FROM users WHERE id = :id", {"id": id})
#[tokio::test]
async fn in_a_web_server() {
    async fn user(State(system): State<System>, Path(id): Path<i64>) -> Result<Json<Option<User>>, Error> {
        let query = Query::new("select id, name from users where id = :id").bind("id", id);
        Ok(Json(system.query_as(query).await?.pop()))
    }

    async fn price(State(system): State<System>) -> Result<String, Error> {
        Ok(system.http("prices")?.get("/").send().await?.text().await?)
    }

    let test = TestDatabase::new().await;
    let system = users(&test).await;
    let router = Router::new()
        .route("/users/{id}", get(user))
        .route("/price", get(price))
        .with_state(system.clone())
        .merge(system.health().router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    // A caller of it, with a system of its own.
    let mut config = Config::default();
    let mut api = config::Http::new(format!("http://{address}"));
    api.retry.retries = 0;
    config.http.insert("users".to_owned(), api);
    let caller = System::start(config).await.unwrap();
    let users = caller.http("users").unwrap();
    let ada: User = users.get("/users/{id}").param("id", 1).send().await.unwrap().json().await.unwrap();
    assert_eq!(ada.name, "Ada");
    assert_eq!(users.get("/readyz").send().await.unwrap().status(), 200);

    // What only the program can mend: the caller is told no more than that.
    let answer = users.get("/price").send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(!answer.text().await.unwrap().contains("http.prices"));

    // A layer's refusal is an answer of its own: another instance may help.
    assert!(system.shutdown(PATIENCE).await.is_clean());
    let answer = users.get("/users/{id}").param("id", 1).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    server.abort();
}

// async def worker():
//     while job := await system.queue.get():
//         await handle(job)
// task = system.create_background_task(worker())
#[tokio::test]
async fn background_work() {
    /// Takes a job and does it, in one transaction: whoever is killed meanwhile has not done it.
    async fn work(system: System) -> u32 {
        let take =
            "delete from jobs where id = (select id from jobs order by id limit 1 for update skip locked)
            returning id";
        let done = "insert into done (id) values (:id)";
        let mut jobs = 0;
        loop {
            let job = system.transaction(async |tx| {
                let Some(job) = tx.query(Query::new(take)).await?.optional()? else { return Ok(false) };
                tx.query(Query::new(done).bind("id", job.get::<i64>("id")?)).await?;
                Ok::<_, Error>(true)
            });
            match job.await {
                Ok(true) => jobs += 1,
                Ok(false) => sleep(5 * MS).await,
                Err(error) if error.rejected().is_some_and(|why| why.reason() == Reason::Closed) => {
                    return jobs;
                }
                // The breaker and the pool see to it that this is no storm.
                Err(_) => sleep(100 * MS).await,
            }
        }
    }

    let test = TestDatabase::new().await;
    let system = System::start(with_database(&test)).await.unwrap();
    system.execute(Query::new("create table jobs (id bigint primary key)")).await.unwrap();
    system.execute(Query::new("create table done (id bigint primary key)")).await.unwrap();
    system.execute(Query::new("insert into jobs select generate_series(1, 50)")).await.unwrap();

    let workers = [(); 3].map(|()| tokio::spawn(work(system.clone())));
    let all_done = async {
        while count(&system, "done").await < 50 {
            sleep(10 * MS).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_done).await.expect("the jobs are done");

    assert!(system.shutdown(PATIENCE).await.is_clean());
    let mut jobs = 0;
    for worker in workers {
        jobs += tokio::time::timeout(PATIENCE, worker).await.expect("it stops at the shutdown").unwrap();
    }
    assert_eq!(jobs, 50);
}
