use std::{future::Future, pin::pin};

use buttress_core::{Deadline, Origin};
use tokio_postgres::types::Type;

use crate::{
    Error, Rows,
    connection::{Call, Connection, Running},
    lease::Lease,
    postgres::Shared,
    sent::Sent,
    within::within,
};

/// Something that is done on a connection. (An async closure would do, if its future could be known to be `Send`.)
pub(crate) trait Work {
    type Output;

    /// Tells `sent` just before the server may begin to carry it out.
    fn on(
        &self,
        connection: &Connection,
        sent: &Sent,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;

    /// Whether the connection is fit for others after this.
    fn leaves_it_fit(_: &Self::Output) -> bool {
        true
    }
}

impl Shared {
    /// Does something on a connection of the pool, within the deadline. Where the connection turned out to be dead before
    /// it was sent, it is done on another, once.
    ///
    /// Dropped unfinished or too late, it is cancelled on the server, and the connection is discarded.
    pub(crate) async fn on_connection<W: Work>(
        &self,
        deadline: Option<Deadline>,
        work: &W,
    ) -> Result<W::Output, Error> {
        let (output, lease) = self.begin_on_connection(deadline, work).await?;
        lease.settle(W::leaves_it_fit(&output));
        Ok(output)
    }

    /// The same, of which something is still unfinished: the connection is still occupied.
    pub(crate) async fn begin_on_connection<W: Work>(
        &self,
        deadline: Option<Deadline>,
        work: &W,
    ) -> Result<(W::Output, Lease<'_>), Error> {
        let mut repeated = false;
        loop {
            let mut lease = self.lease(deadline).await?;
            let sent = Sent::default();
            lease.occupy();
            let result = within(deadline, pin!(work.on(lease.connection(), &sent))).await;
            let Ok(result) = result else {
                // The lease goes here, and cancels the statement.
                return Err(self.no_answer(sent.any()));
            };
            let error = match result {
                Ok(output) => return Ok((output, lease)),
                Err(error) => error,
            };
            lease.settle(!error.breaks_connection());
            if repeated || !is_harmless_loss(&error) {
                return Err(error);
            }
            repeated = true;
        }
    }

    /// The types of a statement's parameters, in the order of their names in the text.
    pub(crate) async fn describe(&self, text: &str, deadline: Option<Deadline>) -> Result<Vec<Type>, Error> {
        let instance = self.origin;
        let parsed = self.texts.parse(text).map_err(|cause| Error::Query { instance, cause })?;
        self.on_connection(deadline, &Describe { sql: &parsed.sql, instance }).await
    }
}

struct Describe<'a> {
    sql: &'a str,
    instance: Origin,
}

impl Work for Describe<'_> {
    type Output = Vec<Type>;

    async fn on(&self, connection: &Connection, _: &Sent) -> Result<Vec<Type>, Error> {
        // What is kept may be of a table that is not there any more.
        connection.forget(self.sql);
        let (statement, _) = connection.prepare(self.sql, false, self.instance).await?;
        Ok(statement.params().to_vec())
    }
}

/// To be run, and its rows collected.
impl Work for Call<'_> {
    type Output = Rows;

    async fn on(&self, connection: &Connection, sent: &Sent) -> Result<Rows, Error> {
        connection.run(self, sent).await
    }
}

/// A statement that is to begin.
pub(crate) struct Opening<'a>(pub(crate) Call<'a>);

impl Work for Opening<'_> {
    type Output = Running;

    async fn on(&self, connection: &Connection, sent: &Sent) -> Result<Running, Error> {
        connection.open(&self.0, sent).await
    }
}

/// Whether the connection turned out to be dead before the statement was sent: one of the pool's that broke since it
/// was last used. Worth one more connection, and harmless.
pub(crate) fn is_harmless_loss(error: &Error) -> bool {
    error.breaks_connection() && !error.sent()
}
