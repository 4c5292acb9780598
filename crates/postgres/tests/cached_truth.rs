//! Whatever happens, in whatever order: what a cache answers is true soon, and after one's own write at once.

#![cfg(feature = "cache")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_postgres::{CachedQueries, Postgres, Query, QueryCache};
use buttress_testkit::TestDatabase;
use support::{
    figure,
    listening::{LISTENER, config, run, until_changed, until_listening},
    postgres, spy,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Layer;

const ROWS: u64 = 4;

/// Takes a while now and then, so that changes fall into it.
fn read(id: u64) -> Query {
    let sql = "select n, pg_sleep(case when random() < 0.3 then 0.003 else 0 end) from counts where id = :id";
    Query::new(sql).bind("id", id as i64).cached(["counts"])
}

async fn value(cached: &CachedQueries<Postgres>, id: u64) -> i64 {
    cached.query(read(id)).await.unwrap().one().unwrap().get("n").unwrap()
}

fn count(id: u64) -> Query {
    Query::new("update counts set n = n + 1 where id = :id returning n")
        .bind("id", id as i64)
        .writes(["counts"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_end_every_cache_tells_what_is_there_and_never_less_than_one_wrote() {
    let test = TestDatabase::new().await;
    let client = spy(test.config()).await;
    let sql =
        "create sequence runs; create table marker (); create table counts (id bigint primary key, n bigint);
        insert into counts select n, 0 from generate_series(0, 3) n";
    client.batch_execute(sql).await.unwrap();
    let mut caches = Vec::new();
    for name in ["one", "other"] {
        let cache = QueryCache::with(name, |cache| cache.stale_while_revalidate(Duration::from_secs(60)));
        cache.listen(&config(&test.url()), ["counts", "marker"]).await.unwrap();
        caches.push(cache.layer(postgres(&test.url(), 6)));
    }

    let (over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for number in 0..8_u64 {
        let (cached, over, reads) = (caches[number as usize % 2].clone(), over.clone(), reads.clone());
        let other = spy(test.config()).await;
        tasks.spawn(async move {
            for step in 0.. {
                if over.load(Relaxed) {
                    return;
                }
                let id = (number + step) % ROWS;
                match number / 2 {
                    // Reads what it wrote.
                    0 => {
                        let written: i64 =
                            cached.query(count(id)).await.unwrap().one().unwrap().get(0).unwrap();
                        let read = value(&cached, id).await;
                        assert!(read >= written, "{read} was read after {written} was written");
                    }
                    // Only reads. What is there grows, but what was read may be from before another's read.
                    1 => {
                        value(&cached, id).await;
                        reads.fetch_add(1, Relaxed);
                    }
                    // Gives up at any time.
                    2 => {
                        let limit = Duration::from_micros(step * 137 % 2_000);
                        let _given_up = timeout(limit, cached.query(count(id))).await;
                    }
                    // Goes past every cache.
                    _ => {
                        let end = if step % 3 == 0 { "rollback" } else { "commit" };
                        let sql = format!("begin; update counts set n = n + 1 where id = {id}; {end}");
                        other.batch_execute(&sql).await.unwrap();
                    }
                }
                sleep(Duration::from_micros(if number / 2 == 1 { 200 } else { 15_000 })).await;
            }
        });
    }
    for _ in 0..6 {
        sleep(Duration::from_millis(350)).await;
        let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where {LISTENER}");
        client.execute(&kill, &[]).await.unwrap();
    }
    over.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    // What was given up is cancelled by then.
    sleep(Duration::from_millis(200)).await;
    for cached in &caches {
        until_listening(cached.cache(), true).await;
        let marker = run(cached, "marker").await;
        client.batch_execute("notify buttress_cache, 'public.marker'").await.unwrap();
        until_changed(cached, "marker", marker).await;
        for id in 0..ROWS {
            let there: i64 =
                client.query_one("select n from counts where id = $1", &[&(id as i64)]).await.unwrap().get(0);
            assert_eq!(value(cached, id).await, there);
        }
        assert!(figure(cached.cache(), "hits") > 0.0 && figure(cached.cache(), "reconnects") > 0.0);
    }
    eprintln!("{} reads, {:?}", reads.load(Relaxed), caches[0].cache().stats());
}
