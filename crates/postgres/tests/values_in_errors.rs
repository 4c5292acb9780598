//! What an error shows of the values that were bound: nothing.

mod support;

use buttress_postgres::Query;
use buttress_testkit::TestDatabase;
use support::postgres;

/// Each way in which a value gets into the server's message: a cast, a lookup by name, dynamic SQL, a raise.
#[tokio::test]
async fn no_error_shows_a_value() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for create in [
        "create table t (s text check (s <> 'hunter2'), n int not null)",
        "create function raises(p text, state text) returns int language plpgsql as \
         $$ begin raise exception using errcode = state, message = 'no ' || p; end $$",
        "create function runs(p text) returns int language plpgsql as $$ begin execute p; return 1; end $$",
    ] {
        db.query(Query::new(create)).await.unwrap();
    }
    for (text, says) in [
        ("select :p::text::int", "ERROR 22P02: invalid text representation"),
        ("select :p::text::date", "ERROR 22007: invalid datetime format"),
        ("select :p::text::regclass", "ERROR 42P01: undefined table"),
        ("select :p::text::regtype", "ERROR 42704: undefined object"),
        ("select nextval(:p::text)", "ERROR 42P01: undefined table"),
        ("select encode('x', :p)", "ERROR 22023: invalid parameter value"),
        ("select set_config(:p, 'x', true)", "ERROR 42704: undefined object"),
        ("select runs(:p)", "ERROR 42601: syntax error"),
        ("select raises(:p, 'P0001')", "ERROR P0001: raised exception"),
        ("select raises(:p, '23505')", "ERROR 23505: integrity constraint violation"),
        ("select raises(:p, '40001')", "ERROR 40001: transaction rollback"),
        ("select raises(:p, 'ZZ001')", "ERROR ZZ001: an error of its own"),
        ("select pg_read_file(:p)", "ERROR 58P01: undefined file"),
        // Messages that cannot hold a value are shown.
        ("insert into t values (:p, 1)", "violates check constraint \"t_s_check\""),
        ("insert into t values (:p)", "null value in column \"n\" of relation \"t\" violates not-null"),
        ("select :p from nowhere", "relation \"nowhere\" does not exist"),
        ("select 'text'::int, :p::text", "invalid input syntax for type integer: \"text\""),
        (
            "select (select 1 from generate_series(1, 2)), :p::text",
            "more than one row returned by a subquery",
        ),
    ] {
        let error = db.query(Query::new(text).bind("p", "hunter2")).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says) && !shown.contains("hunter2"), "{text}: {shown}");
        assert!(error.database().is_some(), "{text}: {shown}");
    }
    let error = db.query(Query::new("select :p::text::int").bind("p", "hunter2")).await.unwrap_err();
    assert_eq!(error.database().unwrap().message(), "invalid input syntax for type integer: \"hunter2\"");
}
