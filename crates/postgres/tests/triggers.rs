//! What the triggers tell, and how they come to their tables, on a real server.

#![cfg(feature = "cache")]

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, PostgresConfig, QueryCache, QueryError, Table};
use buttress_testkit::TestDatabase;
use support::{
    listening::{LISTENER, begin, config, listening, run, still, until_changed, until_figure},
    until_backends,
};
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn whatever_changes_rows_is_heard_and_what_does_not_is_not() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    spy.batch_execute(
        "create table visits (user_id bigint references users on delete cascade, at timestamptz)",
    )
    .await
    .unwrap();
    cached.cache().listen(&config(&test.url()), ["visits"]).await.unwrap();
    for sql in [
        "insert into users select n, 'n' from generate_series(1, 10) n",
        "update users set name = 'x' where id = 1",
        "delete from users where id = 2",
        "merge into users using (values (3)) v (id) on users.id = v.id when matched then update set name = 'y'",
        "copy users from program 'echo 77'",
        "truncate users cascade",
        "begin; insert into users values (1, 'a'); savepoint s; insert into users values (2, 'b'); commit",
        "do $$ begin insert into users values (5, 'c'); end $$",
    ] {
        let before = run(&cached, "users").await;
        let sql = sql.replace("copy users from", "copy users (id) from");
        spy.batch_execute(&sql).await.unwrap();
        until_changed(&cached, "users", before).await;
    }
    // By a foreign key.
    spy.batch_execute("insert into visits values (5, now())").await.unwrap();
    still(&cached, &spy, run(&cached, "users").await).await;
    let before = run(&cached, "visits").await;
    spy.batch_execute("delete from users where id = 5").await.unwrap();
    until_changed(&cached, "visits", before).await;

    let before = run(&cached, "users").await;
    for sql in [
        "select * from users",
        "begin; delete from users; rollback",
        "create table others ()",
        "analyze users",
    ] {
        spy.batch_execute(sql).await.unwrap();
    }
    still(&cached, &spy, before).await;
}

#[tokio::test]
async fn a_transaction_is_heard_when_it_commits() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    let writer = support::spy(test.config()).await;
    let before = run(&cached, "users").await;
    writer.batch_execute("begin; insert into users values (1, 'a'); truncate users").await.unwrap();
    still(&cached, &spy, before).await;
    writer.batch_execute("commit").await.unwrap();
    until_changed(&cached, "users", before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn triggers_install_themselves_once_however_many_do_it_at_once() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    spy.batch_execute("create table orders (id bigint); create table visits (id bigint)").await.unwrap();
    let tables = ["users", "orders", "visits"];
    let mut processes = tokio::task::JoinSet::new();
    for number in 0..16 {
        let config = config(&test.url());
        let mut tables = tables;
        tables.rotate_left(number % 3);
        processes.spawn(async move {
            let cache = QueryCache::new("one of many");
            cache.listen(&config, tables).await.map(|()| cache)
        });
    }
    let caches: Vec<QueryCache> = processes.join_all().await.into_iter().map(Result::unwrap).collect();
    assert!(caches.iter().all(QueryCache::is_listening));
    let count = "select count(*) from pg_trigger where tgname = 'buttress_cache'";
    assert_eq!(spy.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 3);

    // Where they are, nothing waits for a lock, though a writer holds his.
    spy.batch_execute("begin; insert into users values (1, 'a'); lock table orders in access exclusive mode")
        .await
        .unwrap();
    timeout(Duration::from_secs(1), cached.cache().listen(&config(&test.url()), tables))
        .await
        .unwrap()
        .unwrap();
    spy.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_busy_is_not_waited_for_for_long() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    spy.batch_execute("begin; insert into users values (1, 'a')").await.unwrap();
    let start = Instant::now();
    let error = cached.cache().listen(&config(&test.url()), ["users"]).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("55P03"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(!cached.cache().is_listening());
    spy.batch_execute("rollback").await.unwrap();
    cached.cache().listen(&config(&test.url()), ["users"]).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_listened_to_is_told_with_its_name() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    spy.batch_execute("create view everybody as select * from users").await.unwrap();
    for (name, shown) in [
        ("nobody", "public.nobody"),
        ("Users", "public.Users"),
        ("nowhere.users", "nowhere.users"),
        ("everybody", "public.everybody"),
        ("", "public."),
        ("pg_catalog.pg_stat_activity", "pg_catalog.pg_stat_activity"),
    ] {
        let error = cached.cache().listen(&config(&test.url()), ["users", name]).await.unwrap_err();
        assert!(
            matches!(&error, Error::Query { cause: QueryError::NoTable(table), .. } if **table == *shown),
            "{error}"
        );
    }
    let nobody = PostgresConfig::from_url("postgres://postgres@127.0.0.1:1/none").unwrap();
    let error = cached.cache().listen(&nobody, ["users"]).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    let late =
        Deadline::after(Duration::ZERO).scope(cached.cache().listen(&config(&test.url()), ["users"])).await;
    assert_eq!(
        late.unwrap_err().rejected().map(|rejected| rejected.reason()),
        Some(Reason::DeadlineExceeded)
    );
    assert!(!cached.cache().is_listening());
    until_backends(&spy, LISTENER, 0).await;
}

#[tokio::test]
async fn names_that_need_quotes_are_heard() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    let names = [
        Table::new("Shop", "Order\"s"),
        Table::new("Shop", "Größe 東京"),
        Table::new("sch.ema", "select; drop table users --"),
        Table::new("public", "it's $$ %s %I"),
    ];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    spy.batch_execute("create schema \"Shop\"; create schema \"sch.ema\"").await.unwrap();
    let quoted = [
        format!("\"Shop\".{}", quote("Order\"s")),
        format!("\"Shop\".{}", quote("Größe 東京")),
        format!("\"sch.ema\".{}", quote("select; drop table users --")),
        quote("it's $$ %s %I"),
    ];
    for table in &quoted {
        spy.batch_execute(&format!("create table {table} (id bigint)")).await.unwrap();
    }
    cached.cache().listen(&config(&test.url()), names.clone()).await.unwrap();
    for (name, quoted) in names.iter().zip(&quoted) {
        let before = run(&cached, name.clone()).await;
        spy.batch_execute(&format!("insert into {quoted} values (1)")).await.unwrap();
        until_changed(&cached, name.clone(), before).await;
    }
    QueryCache::remove_triggers(&config(&test.url()), names).await.unwrap();
    let count = "select count(*) from pg_trigger where tgname = 'buttress_cache'";
    assert_eq!(spy.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn removed_triggers_are_gone_and_what_has_none_is_left_alone() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    spy.batch_execute("create table orders (id bigint)").await.unwrap();
    let before = run(&cached, "users").await;
    let tables = ["users", "orders", "nobody"];
    for _ in 0..2 {
        QueryCache::remove_triggers(&config(&test.url()), tables).await.unwrap();
    }
    spy.batch_execute("insert into users values (1, 'a')").await.unwrap();
    still(&cached, &spy, before).await;
    // Soon it is noticed, and they are installed anew.
    until_figure(cached.cache(), "reconnects", 1.0).await;
    let before = run(&cached, "users").await;
    spy.batch_execute("insert into users values (2, 'b')").await.unwrap();
    until_changed(&cached, "users", before).await;
}

#[tokio::test]
async fn of_a_partitioned_table_what_names_it_is_heard_and_a_partition_by_its_own_name() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    spy.batch_execute(
        "create table events (id bigint) partition by range (id);
         create table events_low partition of events for values from (0) to (10);
         create table events_high partition of events for values from (10) to (20)",
    )
    .await
    .unwrap();
    cached.cache().listen(&config(&test.url()), ["events", "events_high", "marker"]).await.unwrap();
    for sql in [
        "insert into events values (1), (11)",
        "update events set id = 12 where id = 1",
        "delete from events",
        "truncate events",
    ] {
        let before = run(&cached, "events").await;
        spy.batch_execute(sql).await.unwrap();
        until_changed(&cached, "events", before).await;
    }
    let (whole, low, high) =
        (run(&cached, "events").await, run(&cached, "events_low").await, run(&cached, "events_high").await);
    spy.batch_execute("insert into events_high values (15)").await.unwrap();
    until_changed(&cached, "events_high", high).await;
    spy.batch_execute("insert into events_low values (5)").await.unwrap();
    let users = run(&cached, "users").await;
    still(&cached, &spy, users).await;
    assert_eq!((run(&cached, "events").await, run(&cached, "events_low").await), (whole, low));
}

#[tokio::test]
async fn a_role_without_rights_listens_where_the_triggers_are_there() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    spy.batch_execute(
        "do $$ begin if not exists (select from pg_roles where rolname = 'app') then create role app login; end if; end $$;
         grant all on users, runs to app",
    )
    .await
    .unwrap();
    let app = test.url().replace("postgres@", "app@");
    let error = cached.cache().listen(&config(&app), ["users"]).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");

    // What the README shows to a database administrator.
    let readme = include_str!("../README.md");
    let sql = readme.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    spy.batch_execute(&sql.replace("shop.orders", "public.users")).await.unwrap();
    cached.cache().listen(&config(&app), ["users"]).await.unwrap();
    let writer = support::spy(app.parse().unwrap()).await;
    let before = run(&cached, "users").await;
    writer.batch_execute("insert into users values (1, 'a')").await.unwrap();
    until_changed(&cached, "users", before).await;
}
