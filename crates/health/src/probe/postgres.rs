use buttress_postgres::{Error, Postgres, Query};

use super::{Kind, Probe};
use crate::Status;

impl Probe {
    /// Asks `select 1`, by a connection of this pool. A pool without a free one is down as well. Of an error of the server its
    /// SQLSTATE is shown (`28P01`: the password is wrong), and not what the server wrote.
    #[must_use]
    pub fn postgres(db: Postgres) -> Self {
        Self::of(Kind::Datastore, move || {
            let db = db.clone();
            async move {
                db.query(Query::new("select 1")).await.map_or_else(|error| down(&error), |_| Status::Well)
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
