use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_health::Probe;
use buttress_postgres::{
    Error, InsertBatch, Inserted, Postgres, Query, Rows, SqlStateClassifier, Transaction, TransactionOptions,
};
use buttress_telemetry::{Plain, PostgresConvention, Registry, Slow, TelemetryLayer};
use pin_project_lite::pin_project;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    admission::Gate,
    error::StartError,
    inserts::Inserter,
    layers::{Layers, Values},
    part::{Calling, Part},
    work::{Ended, OfTransaction},
};
use crate::{Config, config, explain};

type OfQueries = Part<Postgres, PostgresConvention, SqlStateClassifier>;

/// The database behind its layers: a [`Service`] of [`Query`]. Clones are the same.
///
/// It is always ready: what it waits for, it waits for in the call.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    queries: OfQueries,
    gate: Gate,
    transactions: TelemetryLayer<Plain, OfTransaction>,
    inserts: TelemetryLayer<Plain, SqlStateClassifier>,
}

/// What its layers are called.
const NAME: &str = "database";

impl Database {
    pub(super) fn new(
        config: &Config,
        database: &config::Database,
        registry: &Registry,
        gate: &Gate,
    ) -> Result<Self, StartError> {
        let wrong = |wrong: config::Wrong| StartError::wrong(NAME, &wrong);
        let values = Values::of_database(config, database).map_err(wrong)?;
        let client = database.client(&config.name).map_err(wrong)?;
        let convention = PostgresConvention::new(client.database().unwrap_or_default().to_owned());
        let postgres = Postgres::new(client).map_err(|error| StartError::part(NAME, error))?;
        let slow = Slow::After(values.slow_call);
        let layers = Layers::new(NAME, registry, gate, convention, SqlStateClassifier, values)?;
        let queries = Part::new(NAME, postgres, SqlStateClassifier, layers);
        queries.register(registry, &queries.adapter)?;
        let seen = |name| TelemetryLayer::builder(name, registry).slow(slow);
        let transactions = seen("database transactions").classify(OfTransaction).build()?;
        let inserts = seen("database inserts").classify(SqlStateClassifier).build()?;
        Ok(Self(Arc::new(Inner { queries, gate: gate.clone(), transactions, inserts })))
    }

    /// The client itself, past the layers: for what they don't know, such as streams and notifications.
    #[must_use]
    pub fn client(&self) -> &Postgres {
        &self.0.queries.adapter
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// See [`Error`]; what a layer refuses is [`Error::Rejected`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement is cancelled on the server.
    pub async fn query(&self, query: Query) -> Result<Rows, Error> {
        self.0.queries.call(query).await
    }

    /// Runs a closure in a transaction, and commits it where that returns `Ok`: see [`Postgres::transaction`]. It is not
    /// repeated.
    ///
    /// # Errors
    /// The closure's own, the database's, or a layer's.
    ///
    /// # Cancellation
    /// Dropped unfinished, or where the closure panics, nothing is committed, unless `COMMIT` had been sent.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        self.run(work).await.map_err(Ended::into_theirs::<Error>)
    }

    pub(super) async fn run<T, E, F>(&self, work: F) -> Result<T, Ended<E>>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
    {
        let client = self.client();
        let run = async move || {
            client.transaction(async |tx: &Transaction<'_>| work(tx).await.map_err(Ended::Theirs)).await
        };
        self.transact(run).await
    }

    /// The same, run anew as often as the options say where the server met a conflict: see
    /// [`Postgres::transaction_with`].
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction), of the last run.
    ///
    /// # Cancellation
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<T, E, F>(&self, options: TransactionOptions, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E> + Clone,
        E: From<Error>,
    {
        self.run_with(options, work).await.map_err(Ended::into_theirs::<Error>)
    }

    pub(super) async fn run_with<T, E, F>(&self, options: TransactionOptions, work: F) -> Result<T, Ended<E>>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E> + Clone,
    {
        let client = self.client();
        let run = async move || {
            let work = async move |tx: &Transaction<'_>| work(tx).await.map_err(Ended::Theirs);
            client.transaction_with(options, work).await
        };
        self.transact(run).await
    }

    async fn transact<T, E, F>(&self, run: F) -> Result<T, Ended<E>>
    where
        F: AsyncFnOnce() -> Result<T, Ended<E>>,
    {
        let mut run = Some(run);
        let passing = service_fn(|()| {
            let run = run.take().expect("it is called once");
            async {
                let _inside = self.0.gate.enter()?;
                self.0.queries.layers().pass(OfTransaction, run).await
            }
        });
        self.0.transactions.layer(passing).oneshot(()).await
    }

    /// Inserts many rows by one statement, and tells of each what became of it: see [`InsertBatch::insert`].
    ///
    /// # Errors
    /// As [`query`](Self::query), for all rows together.
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement is cancelled on the server.
    pub async fn batch_insert<T>(
        &self,
        insert: &InsertBatch<T>,
        rows: &[T],
    ) -> Result<Vec<Result<Inserted, Error>>, Error>
    where
        T: Send + Sync + 'static,
    {
        let _inside = self.0.gate.enter()?;
        self.insert(async || insert.insert(rows).await).await
    }

    /// A batcher for rows that come one by one, from many callers: those that come while a statement runs are the next one.
    /// Make it once, at the start.
    ///
    /// A row is in flight until its caller has the answer: the system's shutdown waits for it.
    #[must_use]
    pub fn batch<T>(&self, name: &str, insert: InsertBatch<T>) -> Inserter<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        Inserter::new(name, self.0.gate.clone(), self.clone(), insert)
    }

    pub(super) async fn insert<T>(&self, run: impl AsyncFnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut run = Some(run);
        let passing = service_fn(|()| {
            let run = run.take().expect("it is called once");
            async { self.0.queries.layers().pass(SqlStateClassifier, run).await }
        });
        self.0.inserts.layer(passing).oneshot(()).await
    }

    /// What asks after its health: see [`Part::probe`].
    pub(super) fn probe(&self) -> Probe {
        let database = self.clone();
        Probe::postgres(service_fn(move |query| {
            let database = database.clone();
            async move { database.0.queries.probe(query).await }
        }))
    }

    pub(super) fn explained(&self) -> explain::Stack {
        self.0.queries.explained(self.client())
    }

    /// Works by other values from here on.
    pub(super) fn change(&self, values: Values, registry: &Registry) {
        // A time can always be set, only a factor cannot.
        let slow = Slow::After(values.slow_call);
        let _ = (self.0.transactions.set_slow(slow), self.0.inserts.set_slow(slow));
        self.0.queries.change(values, registry, self.client());
    }
}

impl Service<Query> for Database {
    type Response = Rows;
    type Error = Error;
    type Future = QueryFuture;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, query: Query) -> QueryFuture {
        QueryFuture { call: self.0.queries.call(query) }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(self.client()).finish()
    }
}

pin_project! {
    /// A call of [`Database`].
    #[must_use = "futures do nothing unless polled"]
    pub struct QueryFuture {
        #[pin]
        call: Calling<Postgres, PostgresConvention, SqlStateClassifier, Query>,
    }
}

impl Future for QueryFuture {
    type Output = Result<Rows, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl fmt::Debug for QueryFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryFuture").finish_non_exhaustive()
    }
}
