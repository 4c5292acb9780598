mod hold;

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::{Deadline, Decision, Origin, Reason};
use futures_util::{Stream, stream::FusedStream};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use self::hold::{Hold, OwnedLease, Streaming};
use crate::{
    Error, Postgres, Query, Row, Transaction,
    connection::{Call, Running},
    on_connection::Opening,
    recent::Text,
    statistics::Timed,
    within::{earlier, within},
};

/// Rows as they come: made by [`Postgres::stream`] and [`Transaction::stream`]. That of a [`Postgres`] is `'static`.
///
/// It holds one connection, and reads as fast as it is read itself: what was not read yet waits at the server, but for
/// some buffers of the network's. It ends with `None` or with the first error, and says `None` ever after.
///
/// # Errors
/// Those of [`Postgres::query`], which may come behind rows. The deadline under which the stream was made holds for all of
/// it: once it has passed, the next poll says so, be there more rows or not (one of the next 16, if the reader did not
/// let the runtime work meanwhile). An earlier one, under which it is polled, ends a wait for a row, and the stream with it; it
/// is forgotten when the row comes in time.
///
/// # Cancellation
/// Dropped before its end, the statement is cancelled on the server, and its connection is discarded; in a transaction,
/// that is rolled back. To wait for the next row and to drop that wait loses no row.
#[must_use = "streams do nothing unless polled"]
pub struct RowStream<'a> {
    open: Option<Open<'a>>,
    origin: Origin,
    /// The one under which it was made.
    deadline: Option<Deadline>,
    /// For that, or for an earlier one under which it is polled; none before the first poll.
    alarm: Option<Pin<Box<Sleep>>>,
    polls: u8,
    affected: Option<u64>,
}

/// How many polls have one reading of the clock.
const POLLS: u8 = 16;

/// The rows go first: a connection whose rows nobody reads waits for their reader.
struct Open<'a> {
    rows: Pin<Box<tokio_postgres::RowStream>>,
    hold: Hold<'a>,
    text: Arc<Text>,
    /// Whether it was prepared before.
    kept: bool,
    timed: Timed,
}

impl Postgres {
    /// Runs one statement, and gives out its rows as they come: for results that are too large to be collected.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Postgres, Query};
    /// use futures_util::TryStreamExt;
    ///
    /// # async fn f(db: Postgres) -> Result<(), Error> {
    /// let mut rows = db.stream(Query::new("select id, name from users")).await?;
    /// while let Some(row) = rows.try_next().await? {
    ///     let (id, name): (i64, String) = row.read()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The stream is there with its first rows: the server sends them by portions of 8 KiB. Until it was read to its end
    /// it holds a connection of the pool: as many streams as the pool has connections, whose readers all want another one
    /// meanwhile, wait until the wait timeout.
    ///
    /// # Errors
    /// See [`Error`]; and [`RowStream`] for those that come later.
    ///
    /// # Cancellation
    /// As that of [`query`](Self::query).
    pub async fn stream(&self, query: Query) -> Result<RowStream<'static>, Error> {
        let shared = self.shared();
        let wrong = |cause| Error::Query { instance: shared.origin, cause };
        let text = shared.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&text).map_err(wrong)?;
        let deadline = shared.deadline()?;
        shared.counters.queries.fetch_add(1, Relaxed);
        let call = Call::new(shared.origin, &text, &params);
        #[cfg(feature = "cache")]
        let call = call.kept_as(&query);
        let call = Opening(call);
        let (running, lease) = shared.begin_on_connection(deadline, &call).await?;
        let hold = Hold::Pool(Box::new(OwnedLease::new(lease, Arc::clone(shared))));
        Ok(RowStream::new(running, hold, text, shared.origin, deadline))
    }
}

impl Transaction<'_> {
    /// Runs one statement in the transaction, and gives out its rows as they come.
    ///
    /// Until it was read to its end, the transaction refuses other statements by [`QueryError::NotAlone`](crate::QueryError::NotAlone), since they would
    /// wait behind rows that nobody reads; and it is refused itself while another one runs.
    ///
    /// # Errors
    /// Those of [`query`](Self::query); and [`RowStream`] tells those that come later.
    ///
    /// # Cancellation
    /// Dropped unfinished, the future or the stream, the whole transaction is rolled back when the closure ends.
    pub async fn stream(&self, query: Query) -> Result<RowStream<'_>, Error> {
        let origin = self.shared.origin;
        // Before it is sent, lest a statement at the same time gets behind it.
        let wrong = |cause| Error::Query { instance: origin, cause };
        let text = self.shared.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&text).map_err(wrong)?;
        let deadline = self.shared.deadline()?;
        let streaming = Streaming::begin(self).map_err(wrong)?;
        self.shared.counters.queries.fetch_add(1, Relaxed);
        let call = Call::new(origin, &text, &params).in_transaction();
        let sent = &self.progress.sent;
        let opened = within(deadline, pin!(self.lease.connection().open(&call, sent))).await;
        match opened.map_err(|_| self.shared.no_answer(sent.any()))? {
            Ok(running) => {
                let hold = Hold::Transaction(streaming);
                Ok(RowStream::new(running, hold, text, origin, deadline))
            }
            Err(error) => {
                streaming.settle(Some(&error));
                Err(error)
            }
        }
    }
}

impl<'a> RowStream<'a> {
    fn new(
        running: Running,
        hold: Hold<'a>,
        text: Arc<Text>,
        origin: Origin,
        deadline: Option<Deadline>,
    ) -> Self {
        let Running { rows, kept, timed } = running;
        let open = Open { rows: Box::pin(rows), hold, text, kept, timed };
        Self { open: Some(open), origin, deadline, alarm: None, polls: 0, affected: None }
    }

    /// How many rows were inserted, updated, deleted or selected: known when the stream has ended without an error.
    #[must_use]
    pub fn affected(&self) -> Option<u64> {
        self.affected
    }

    fn end(&mut self, cause: Option<tokio_postgres::Error>) -> Option<Error> {
        let Open { rows, hold, text, kept, timed } = self.open.take()?;
        let affected = rows.rows_affected().unwrap_or(0);
        drop(rows);
        let Some(cause) = cause else {
            timed.finish(affected);
            self.affected = Some(affected);
            hold.settle(None);
            return None;
        };
        let error = hold.connection().failed(kept.then_some(&text.sql), cause, self.origin);
        timed.fail(&error);
        hold.settle(Some(&error));
        Some(error)
    }

    /// The deadline passed.
    fn give_up(&mut self) -> Error {
        self.open = None;
        Decision::note(self.origin, "gave_up", || "the caller's deadline passed between two rows".into());
        self.origin.reject(Reason::DeadlineExceeded).after_sending().into()
    }

    /// Before each row, since there may always be one more at hand. The clock would cost a tenth of what a row does, so the
    /// runtime's timer is asked, and the clock now and then: a reader who keeps the thread keeps the timer from its work.
    fn is_late(&mut self, deadline: Deadline, cx: &mut Context<'_>) -> bool {
        let set = self.alarm.as_ref().filter(|alarm| alarm.deadline() == deadline.instant());
        let Some(alarm) = set else { return self.poll_alarm(deadline, cx).is_ready() };
        self.polls = self.polls.wrapping_add(1);
        alarm.is_elapsed() || (self.polls.is_multiple_of(POLLS) && deadline.instant() <= Instant::now())
    }

    /// Wakes the reader at the deadline, also where he used up what the runtime lets a task do at a time.
    fn poll_alarm(&mut self, deadline: Deadline, cx: &mut Context<'_>) -> Poll<()> {
        let limit = deadline.instant();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        // It may have been set for another wait.
        if alarm.deadline() != limit {
            alarm.as_mut().reset(limit);
        }
        pin!(unconstrained(alarm)).poll(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(deadline) = earlier(self.deadline) else { return Poll::Pending };
        self.poll_alarm(deadline, cx).map(|()| self.give_up())
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(deadline) = self.deadline
            && self.open.is_some()
            && self.is_late(deadline, cx)
        {
            return Poll::Ready(Some(Err(self.give_up())));
        }
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        match open.rows.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(row))) => Poll::Ready(Some(Ok(Row::new(row, self.origin)))),
            Poll::Ready(Some(Err(cause))) => Poll::Ready(self.end(Some(cause)).map(Err)),
            Poll::Ready(None) => Poll::Ready(self.end(None).map(Err)),
            Poll::Pending => self.poll_waiting(cx).map(|error| Some(Err(error))),
        }
    }
}

impl FusedStream for RowStream<'_> {
    fn is_terminated(&self) -> bool {
        self.open.is_none()
    }
}

impl fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream")
            .field("name", &self.origin.name())
            .field("is_terminated", &self.is_terminated())
            .finish_non_exhaustive()
    }
}
