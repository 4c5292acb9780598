//! Orders: each is written once, however often it is sent, and together with the job that carries it out.
//!
//! A client that got no answer does not know whether its order is there. So it gives each order an `Idempotency-Key` and
//! sends it again, with the same key, until it has an answer: 201 where the order is new, 200 where it was there already.
//! The statement may be carried out twice without harm, so the retries of the stack repeat it, too.
//!
//! The job goes into the queue of `examples/worker` in the same statement: it is there if and only if the order is.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    response::{IntoResponse, Response},
};
use buttress::{
    System,
    postgres::{FromRow, Query},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

pub(super) const SCHEMA: &str = "create table if not exists orders (
    id bigint generated always as identity primary key,
    key text not null unique,
    item text not null,
    quantity int not null,
    placed_at timestamptz not null default now()
)";

/// What is placed does not show in a table that is read in the same statement, so there is one row: the new order, or the
/// one that was there before. There is none where somebody else places it at this moment.
const PLACE: &str = "with placed as (
        insert into orders (key, item, quantity) values (:key, :item, :quantity)
        on conflict (key) do nothing returning id, item, quantity
    ), job as (
        insert into worker_jobs (kind, payload, key, run_at, max_attempts)
        select 'book', jsonb_build_object('note', format('order %s', id)), format('order/%s', :key::text), now(), 20
        from placed on conflict (key) do nothing returning pg_notify('worker_jobs', '')::text
    )
    select id, item, quantity, true as is_new, (select count(*) from job) as jobs from placed
    union all
    select id, item, quantity, false, 0 from orders where key = :key";

#[derive(Debug, FromRow)]
struct Placed {
    id: i64,
    item: String,
    quantity: i32,
    is_new: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    item: String,
    quantity: i32,
}

#[derive(Debug, Serialize)]
struct Order {
    id: i64,
    #[serde(flatten)]
    order: NewOrder,
}

pub(super) async fn place_order(
    State(system): State<System>,
    headers: HeaderMap,
    new: Result<Json<NewOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let key = key(&headers)?;
    let Json(new) = new?;
    if new.item.trim().is_empty() || new.item.len() > 200 || new.item.contains('\0') || new.quantity < 1 {
        let detail = "an order has an item of 1 to 200 bytes without NUL, and a quantity of 1 at least";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let place = Query::new(PLACE)
        .bind("key", key.to_owned())
        .bind("item", new.item.clone())
        .bind("quantity", new.quantity)
        .repeatable();
    let placed: Option<Placed> = match system.query_opt_as(place.clone()).await? {
        // Somebody else's is committed by now.
        None => system.query_opt_as(place).await?,
        placed => placed,
    };
    let placed = placed.ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "this order is being placed at this moment: send it again")
    })?;
    if (&placed.item, placed.quantity) != (&new.item, new.quantity) {
        let detail = "there is another order of this Idempotency-Key";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let status = if placed.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Order { id: placed.id, order: new })).into_response())
}

fn key(headers: &HeaderMap) -> Result<&str, Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    key.filter(|key| (1..=200).contains(&key.len())).ok_or_else(|| {
        let detail =
            "an order has an Idempotency-Key of 1 to 200 visible characters: send it again with the same one";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}
