use std::{borrow::Cow, fmt};

use buttress_postgres::{Error, Query};

use super::{
    database::{Database, OTHER},
    verb::verb,
};
use crate::{Convention, Describe, Ended, Label, Operation, Side};

/// The semantic conventions for Postgres, for a service of [`Query`] or of `Vec<Query>` in
/// `buttress-postgres`: the histogram `db.client.operation.duration`.
///
/// | attribute | value |
/// |---|---|
/// | `db.system.name` | `postgresql` |
/// | `db.namespace` | the database, as it was given to [`new`](Self::new) |
/// | `db.operation.name` | the statement's first keyword, of a fixed list: `SELECT`, `WITH`, `INSERT`, ...; else `_OTHER`. Of a batch `BATCH SELECT`, or `BATCH` where its statements differ |
/// | `db.query.summary` | the name that [`summary`](Self::summary) gives the query, if any |
/// | `db.response.status_code` | the SQLSTATE of an error, such as `40001` |
/// | `error.type` | the same, or where the server did not say one `connect`, `connection_lost`, `invalid_query`, `commit_uncertain`, `rolled_back`, `untold`, `decode`, `not_found`, `too_many_rows` |
/// | `server.address`, `server.port` | what [`server`](Self::server) says, if anything |
///
/// Neither the text of a query nor a value that is bound is ever in it. The size of a batch is not either: each would be a
/// series of its own.
///
/// Sources: OpenTelemetry semantic conventions, *Database client metrics* and *PostgreSQL client operations* (both stable). They
/// say that an operation's name is not to be taken from a text which may hold several operations. A [`Query`] is one statement, since
/// Postgres prepares no more at a time, and its first keyword says what it is.
#[derive(Clone)]
pub struct PostgresConvention {
    database: Database,
    summary: fn(&Query) -> &'static str,
}

impl PostgresConvention {
    /// For calls to this database: its name, or `database|schema`.
    #[must_use]
    pub fn new(namespace: impl Into<Cow<'static, str>>) -> Self {
        Self { database: Database::new("postgresql", namespace.into()), summary: |_| "" }
    }

    /// The same with the server's name, and its port where it is not 5432. There must be no credentials in it.
    #[must_use]
    pub fn server(mut self, address: impl Into<Cow<'static, str>>, port: u16) -> Self {
        self.database = self.database.server(address.into(), (port != 5432).then_some(port));
        self
    }

    /// Gives queries names for people, which tell them apart in metrics and spans: `user by id`. An empty one is none. It
    /// runs for every call. Names are part of the program, so that their number is bounded.
    ///
    /// ```
    /// use buttress_postgres::Query;
    /// use buttress_telemetry::PostgresConvention;
    ///
    /// const BY_ID: &str = "select name from users where id = :id";
    ///
    /// let convention = PostgresConvention::new("shop").summary(|query: &Query| match query.text() {
    ///     BY_ID => "user by id",
    ///     _ => "",
    /// });
    /// ```
    #[must_use]
    pub fn summary(mut self, summary: fn(&Query) -> &'static str) -> Self {
        self.summary = summary;
        self
    }
}

impl Convention for PostgresConvention {
    fn metric(&self) -> &'static str {
        Database::METRIC
    }

    fn side(&self) -> Side {
        Side::Client
    }

    fn common(&self) -> Vec<(&'static str, Label)> {
        self.database.common()
    }
}

impl<Res> Describe<Query, Res, Error> for PostgresConvention {
    fn operation<'a>(&'a self, request: &'a Query) -> Operation<'a> {
        let operation = Operation::new();
        match (self.summary)(request) {
            "" => operation.named(NAME, verb(request.text()).0),
            summary => operation.named("db.query.summary", summary).with(NAME, verb(request.text()).0),
        }
    }

    fn end(result: &Result<Res, Error>) -> Ended<'_> {
        ended(result)
    }
}

impl<Res> Describe<Vec<Query>, Res, Error> for PostgresConvention {
    fn operation<'a>(&'a self, request: &'a Vec<Query>) -> Operation<'a> {
        Operation::new().named(NAME, batch(request))
    }

    fn end(result: &Result<Res, Error>) -> Ended<'_> {
        ended(result)
    }
}

const NAME: &str = "db.operation.name";

/// One alone is no batch to the conventions.
fn batch(queries: &[Query]) -> &'static str {
    let Some((first, rest)) = queries.split_first() else { return "BATCH" };
    let first = verb(first.text());
    if rest.is_empty() {
        first.0
    } else if rest.iter().all(|query| verb(query.text()) == first) {
        first.1
    } else {
        "BATCH"
    }
}

fn ended<Res>(result: &Result<Res, Error>) -> Ended<'_> {
    let Err(error) = result else { return Ended::new() };
    if let Some(code) = error.sqlstate() {
        let code = if is_sqlstate(code.code()) { code.code() } else { OTHER };
        return Ended::new().with_status("db.response.status_code", code).with_error(code);
    }
    match error {
        Error::Rejected(rejected) => Ended::rejected(rejected),
        error => Ended::new().with_error(kind(error)),
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Query { .. } => "invalid_query",
        Error::Connect { .. } => "connect",
        Error::Lost { .. } => "connection_lost",
        Error::CommitUncertain { .. } => "commit_uncertain",
        Error::RolledBack { .. } => "rolled_back",
        Error::Untold { .. } => "untold",
        Error::Decode { .. } => "decode",
        Error::NotFound { .. } => "not_found",
        Error::TooMany { .. } => "too_many_rows",
        _ => OTHER,
    }
}

/// What a server says need not be one.
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

impl fmt::Debug for PostgresConvention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConvention").field("database", &self.database).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use buttress_core::{Origin, Reason};
    use buttress_postgres::QueryError;
    use buttress_testkit::allocations;

    use super::*;
    use crate::Piece;

    fn convention() -> PostgresConvention {
        PostgresConvention::new("shop|public")
    }

    fn of_query<'a>(convention: &'a PostgresConvention, query: &'a Query) -> Operation<'a> {
        Describe::<Query, (), Error>::operation(convention, query)
    }

    #[test]
    fn a_query_is_told_by_its_keyword_and_the_name_that_its_user_gave_it() {
        let query = Query::new("select * from secrets where name = :name").bind("name", "hunter2");
        let plain = convention();
        let operation = of_query(&plain, &query);
        assert_eq!(operation.attributes()[0], ("db.operation.name", Piece::Text("SELECT")));
        assert_eq!((operation.names().len(), operation.attributes().len()), (1, 1));

        let named = convention()
            .summary(|query| if query.text().contains("secrets") { "secret by name" } else { "" });
        let operation = of_query(&named, &query);
        assert_eq!(operation.attributes()[0], ("db.query.summary", Piece::Text("secret by name")));
        assert_eq!(operation.attributes()[1], ("db.operation.name", Piece::Text("SELECT")));
        let other = Query::new("delete from users");
        assert_eq!(of_query(&named, &other).attributes()[0], ("db.operation.name", Piece::Text("DELETE")));
        for shown in [format!("{named:?}"), format!("{:?}", of_query(&named, &query))] {
            assert!(!shown.contains("hunter2") && !shown.contains("secrets"), "{shown}");
        }
    }

    #[test]
    fn a_batch_is_told_by_the_keyword_that_all_have_in_common() {
        let convention = convention();
        let of = |texts: &[&'static str]| {
            let queries: Vec<Query> = texts.iter().map(|text| Query::new(*text)).collect();
            let operation = Describe::<Vec<Query>, (), Error>::operation(&convention, &queries);
            let (key, Piece::Text(name)) = operation.attributes()[0] else { panic!("{operation:?}") };
            assert_eq!((key, operation.names().len()), ("db.operation.name", 1));
            name.to_owned()
        };
        assert_eq!(of(&[]), "BATCH");
        assert_eq!(of(&["select 1"]), "SELECT");
        assert_eq!(of(&["select 1", " SELECT 2"]), "BATCH SELECT");
        assert_eq!(of(&["select 1", "insert into a values (1)"]), "BATCH");
        assert_eq!(of(&["frobnicate", "hunter2"]), "BATCH");
    }

    #[test]
    fn what_all_calls_have_in_common_names_the_database_and_its_server() {
        let text = |text: &'static str| Label::Text(text.into());
        let common = |convention: &PostgresConvention| convention.common();
        let database = vec![("db.system.name", text("postgresql")), ("db.namespace", text("shop|public"))];
        assert_eq!(common(&convention()), database);
        let mut with_server = database;
        with_server.push(("server.address", text("db.internal")));
        assert_eq!(common(&convention().server("db.internal", 5432)), with_server);
        with_server.push(("server.port", Label::Number(6432)));
        assert_eq!(common(&convention().server("db.internal", 6432)), with_server);
        assert_eq!(convention().metric(), "db.client.operation.duration");
        assert_eq!(convention().side(), Side::Client);
    }

    #[test]
    fn an_end_has_a_kind_unless_a_layer_knows_better() {
        let instance = Origin::new("postgres", "convention");
        let of = |error: Error| ended(&Err::<(), _>(error)).error.map(str::to_owned);
        assert_eq!(ended(&Ok::<(), Error>(())), Ended::default());
        assert_eq!(of(instance.reject(Reason::TimedOut).into()).as_deref(), Some("timed_out"));
        let cause = QueryError::Missing("id".into());
        assert_eq!(of(Error::Query { instance, cause }).as_deref(), Some("invalid_query"));
        assert_eq!(of(Error::NotFound { instance }).as_deref(), Some("not_found"));
        assert_eq!(of(Error::TooMany { instance, rows: 2 }).as_deref(), Some("too_many_rows"));
        assert_eq!(of(Error::CommitUncertain { instance, cause: None }).as_deref(), Some("commit_uncertain"));
    }

    #[test]
    fn no_code_but_a_sqlstate_passes() {
        assert!(is_sqlstate("40001") && is_sqlstate("57P01"));
        for hostile in ["", "4000", "400010", "4000\n", "57p01", "\u{e9}\u{e9}1", "hunter2"] {
            assert!(!is_sqlstate(hostile), "{hostile:?}");
        }
    }

    #[test]
    fn a_call_allocates_nothing() {
        let convention = convention();
        let query = Query::new("select 1");
        let queries = vec![query.clone(), query.clone()];
        let failed = Err::<(), _>(Error::NotFound { instance: Origin::new("postgres", "convention") });
        let counted = allocations(|| {
            assert_eq!(of_query(&convention, &query).names().len(), 1);
            assert_eq!(Describe::<Vec<Query>, (), Error>::operation(&convention, &queries).names().len(), 1);
            assert!(ended(&failed).error.is_some());
        });
        assert_eq!(counted.count, 0);
    }
}
