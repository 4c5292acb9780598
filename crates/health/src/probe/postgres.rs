use std::future::poll_fn;

use buttress_postgres::{Error, Query, Rows};
use tower_service::Service;

use super::{Kind, Probe};
use crate::Status;

impl Probe {
    /// Asks `select 1`, by a connection of this pool, or through the layers before one. A pool without a free one is down as
    /// well, and so is one behind an open circuit. Of an error of the server its SQLSTATE is shown (`28P01`: the password is
    /// wrong), and not what the server wrote.
    #[must_use]
    pub fn postgres<S>(db: S) -> Self
    where
        S: Service<Query, Response = Rows, Error = Error, Future: Send> + Clone + Send + 'static,
    {
        Self::of(Kind::Datastore, move || {
            let mut db = db.clone();
            async move {
                let answer = match poll_fn(|cx| db.poll_ready(cx)).await {
                    Ok(()) => db.call(Query::new("select 1")).await,
                    Err(error) => Err(error),
                };
                answer.map_or_else(|error| down(&error), |_| Status::Well)
            }
        })
    }
}

fn down(error: &Error) -> Status {
    let Some(state) = error.sqlstate() else { return Status::down(error) };
    let state = state.code();
    // This too is what a server wrote.
    if state.len() == 5 && state.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
        Status::down(format_args!("the server answered with SQLSTATE {state}"))
    } else {
        Status::down("the server answered with an error")
    }
}
