//! A Postgres database as a tower service: named parameters, a transaction, a deadline.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run --example postgres`

use std::{env, error::Error, time::Duration};

use buttress_core::Deadline;
use buttress_postgres::{Postgres, PostgresConfig, Query};
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let url = env::var("DATABASE_URL")
        .map_err(|_| "set DATABASE_URL, such as postgres://user@localhost/database")?;
    let db = Postgres::new(PostgresConfig::from_url(&url)?.with_name("orders-db"))?;

    let create = "create table if not exists example_orders (id bigserial primary key, item text not null, pieces int)";
    db.query(Query::new(create)).await?;

    // Both rows or none.
    let placed = db
        .transaction(async |tx| {
            let insert = "insert into example_orders (item, pieces) values (:item, :pieces) returning id";
            let mut ids = Vec::new();
            for (item, pieces) in [("rope", 2_i32), ("anchor", 1)] {
                let query = Query::new(insert).bind("item", item).bind("pieces", pieces);
                ids.push(tx.query(query).await?.one()?.get::<i64>("id")?);
            }
            Ok::<_, buttress_postgres::Error>(ids)
        })
        .await?;
    eprintln!("placed the orders {placed:?}");

    // As a service, so that any layer can stand before it; all of it within a second, or it is cancelled on the server.
    let query = Query::new("select item, pieces from example_orders where id = any(:ids) order by id")
        .bind("ids", placed);
    let rows = Deadline::after(Duration::from_secs(1)).scope(db.clone().oneshot(query)).await?;
    for row in &rows {
        eprintln!("{} x {}", row.get::<i32>("pieces")?, row.get::<&str>("item")?);
    }

    // What takes too long ends at the deadline.
    let slow = db.query(Query::new("select pg_sleep(60)"));
    match Deadline::after(Duration::from_millis(100)).scope(slow).await {
        Ok(_) => eprintln!("that was quick"),
        Err(error) => eprintln!("{error}"),
    }

    db.query(Query::new("drop table example_orders")).await?;
    Ok(())
}
