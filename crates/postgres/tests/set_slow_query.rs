//! Which statements are slow can be set while they run.

mod support;

use std::time::Duration;

use buttress_core::SettingValue;
use buttress_postgres::{Postgres, Query};
use buttress_testkit::{TestDatabase, observed::settings};
use support::{SLEEPING, figure, postgres, spy, until_backends};

async fn sleep(db: &Postgres, seconds: f64) {
    db.query(Query::new("select pg_sleep(:seconds)").bind("seconds", seconds)).await.unwrap();
}

fn told(db: &Postgres) -> SettingValue {
    settings(db).iter().find(|setting| setting.name == "slow_query").unwrap().value
}

#[tokio::test]
async fn what_is_slow_is_what_was_set_when_a_statement_ends() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 2), spy(test.config()).await);
    sleep(&db, 0.05).await;
    assert_eq!(
        (figure(&db, "slow_queries"), told(&db)),
        (0.0, SettingValue::Duration(Duration::from_secs(1)))
    );
    db.set_slow_query(Duration::from_millis(20));
    assert_eq!(told(&db), SettingValue::Duration(Duration::from_millis(20)));
    sleep(&db, 0.05).await;
    assert_eq!((figure(&db, "slow_queries"), db.slow_queries(9).len()), (1.0, 1));
    // One that runs already.
    let running = {
        let db = db.clone();
        tokio::spawn(async move { sleep(&db, 0.5).await })
    };
    until_backends(&spy, SLEEPING, 1).await;
    db.set_slow_query(Duration::MAX);
    running.await.unwrap();
    assert_eq!((figure(&db, "slow_queries"), told(&db)), (1.0, SettingValue::Off));
    assert_eq!(db.slow_queries(9)[0].count(), 1, "what is kept stays");
    db.set_slow_query(Duration::ZERO);
    sleep(&db, 0.0).await;
    assert_eq!(figure(&db, "slow_queries"), 2.0);
}
