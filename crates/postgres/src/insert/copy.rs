use std::{pin::pin, sync::Arc};

use buttress_core::Origin;
use bytes::Bytes;
use futures_util::SinkExt;

use crate::{
    Error, QueryError,
    connection::Connection,
    insert::{
        column::written_as,
        encode::{Encoder, Parts, Refused},
    },
    on_connection::Work,
    recent::Text,
    sent::Sent,
    statistics::Timed,
};

/// Copies rows into a table.
pub(crate) struct Copy<'a, T> {
    pub(crate) instance: Origin,
    /// A statement whose parameters have the types of the columns.
    pub(crate) columns: &'a str,
    pub(crate) text: &'a Arc<Text>,
    pub(crate) encoder: Encoder<'a, T>,
    pub(crate) rows: &'a [T],
}

impl<T: Sync> Work for Copy<'_, T> {
    /// How many were written, and which were not sent.
    type Output = (u64, Refused);

    async fn on(&self, connection: &Connection, sent: &Sent) -> Result<(u64, Refused), Error> {
        self.check(connection).await?;
        let mut refused = Refused::new();
        let parts = Parts::new(&self.encoder, self.rows, &mut refused);
        let timed = Timed::start(self.text);
        match connection.copy(&self.text.sql, parts, sent).await {
            Ok(written) => {
                timed.finish(written);
                Ok((written, refused))
            }
            Err(cause) => {
                let error = Error::of_statement(self.instance, cause, sent.any());
                timed.fail(&error);
                Err(error)
            }
        }
    }
}

impl<T> Copy<'_, T> {
    /// A binary `COPY` does not say of which types its values are: where a column is of another one now that is as wide, the
    /// server would take them for that. So the columns are asked for anew each time, just before.
    async fn check(&self, connection: &Connection) -> Result<(), Error> {
        let instance = self.instance;
        let prepared = connection.client.prepare(self.columns).await;
        let statement = prepared.map_err(|cause| Error::of_statement(instance, cause, false))?;
        let Encoder { columns, types, .. } = self.encoder;
        for ((column, ty), now) in columns.iter().zip(types).zip(statement.params()) {
            if written_as(now) != ty {
                let reason = format!("its column was of the Postgres type `{ty}` and is of `{now}` now");
                let cause = QueryError::Unfit { name: column.name.clone(), reason: reason.into() };
                return Err(Error::Query { instance, cause });
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Runs a `COPY .. FROM STDIN`. Dropped or failed half-way, nothing is copied.
    async fn copy(
        &self,
        text: &str,
        parts: impl Iterator<Item = Bytes>,
        sent: &Sent,
    ) -> Result<u64, tokio_postgres::Error> {
        let (statement, _) = self.prepare_named(text).await?;
        sent.tell();
        let copied = async {
            let mut sink = pin!(self.client.copy_in(&statement).await?);
            for part in parts {
                sink.feed(part).await?;
            }
            sink.finish().await
        };
        // Whatever is wrong with it, it is not kept: what it was prepared for may be gone.
        copied.await.inspect_err(|_| self.forget(text))
    }
}
