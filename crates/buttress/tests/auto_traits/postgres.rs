use buttress_postgres::*;

use super::given::*;

check! {
    "postgres":
    values: [
        QueryKey, SqlStateClassifier, Explained<'static>, Channels, Heard, Notification, SlowQuery, StatementStats,
        Table, Isolation, TransactionOptions, StatementMode
    ];
    handles: [
        CachedQueries<Postgres>, QueryCache, PostgresConfig, InsertBatch<()>, Inserted, LookupBatch<i64, Vec<Row>>,
        Pipelined, Postgres, Query, Row, Rows
    ];
    owned: [InsertBatchBuilder<()>, Listener, RowStream<'static>, Transaction<'static>];
    errors: [ConnectError, Error, QueryError, InvalidConfig];
    futures: [];
    send_futures: [QueryCacheFuture<Postgres>];
    send_only: [];
    traits: [FromRow, Found];
}
