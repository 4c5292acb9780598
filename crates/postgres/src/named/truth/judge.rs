//! A real server that is asked about texts.

use buttress_testkit::TestDatabase;
use bytes::{BufMut, BytesMut};
use tokio::runtime::Runtime;
use tokio_postgres::{
    Client, NoTls, Statement,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

pub(super) struct Judge {
    client: Client,
    _test: TestDatabase,
    runtime: Runtime,
}

/// What the scanner says of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Closed,
    /// It opens this and does not close it.
    Open(&'static str),
    /// Something else is wrong, so that it did not come to the end.
    Other,
}

/// What came of a statement that could be prepared.
#[derive(Debug, PartialEq)]
pub(super) struct Prepared {
    parameters: Vec<Type>,
    columns: Vec<(String, Type)>,
    rows: Result<Vec<Vec<Option<Vec<u8>>>>, String>,
}

impl Prepared {
    pub(super) fn parameters(&self) -> usize {
        self.parameters.len()
    }
}

impl Judge {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, test) = runtime.block_on(async {
            let test = TestDatabase::new().await;
            let (client, connection) = test.config().connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("set check_function_bodies = off").await.unwrap();
            (client, test)
        });
        Self { client, _test: test, runtime }
    }

    /// Prepares and runs it. Its parameters get values that differ.
    pub(super) fn outcome(&self, sql: &str) -> Result<Prepared, String> {
        self.runtime.block_on(async {
            let statement = self.client.prepare(sql).await.map_err(|error| state(&error))?;
            let rows = self.rows(&statement).await;
            let columns = statement.columns().iter();
            Ok(Prepared {
                parameters: statement.params().to_vec(),
                columns: columns.map(|column| (column.name().to_owned(), column.type_().clone())).collect(),
                rows,
            })
        })
    }

    async fn rows(&self, statement: &Statement) -> Result<Vec<Vec<Option<Vec<u8>>>>, String> {
        let values: Vec<Anything> = (1..).take(statement.params().len()).map(Anything).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let rows = self.client.query(statement, &values).await.map_err(|error| state(&error))?;
        let bytes = |row: &tokio_postgres::Row| {
            (0..row.len()).map(|column| row.get::<_, Option<Bytes>>(column).map(|bytes| bytes.0)).collect()
        };
        Ok(rows.iter().map(bytes).collect())
    }

    /// PL/pgSQL reads a statement's tokens by the server's own scanner and, told not to check bodies, leaves it at that
    /// until it is run.
    pub(super) fn verdict(&self, text: &str) -> Verdict {
        let body = format!("do $zqz$begin if false then perform {text}\n; end if; end$zqz$");
        match self.runtime.block_on(self.client.batch_execute(&body)) {
            Ok(()) => Verdict::Closed,
            Err(error) => {
                let said = error.as_db_error().unwrap_or_else(|| panic!("{text:?}: {error}")).message();
                let what =
                    said.strip_prefix("unterminated ").map(|what| what.split(" at or near").next().unwrap());
                match what {
                    Some("quoted string" | "bit string literal" | "hexadecimal string literal") => {
                        Verdict::Open("string")
                    }
                    Some("quoted identifier") => Verdict::Open("quoted identifier"),
                    Some("dollar-quoted string") => Verdict::Open("dollar-quoted string"),
                    Some("/* comment") => Verdict::Open("comment"),
                    Some(other) => panic!("{text:?}: unterminated {other}"),
                    None => Verdict::Other,
                }
            }
        }
    }
}

fn state(error: &tokio_postgres::Error) -> String {
    let said = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    said.code().code().to_owned()
}

/// A value for a parameter of this number, whatever its type.
#[derive(Debug)]
struct Anything(i32);

impl ToSql for Anything {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match *ty {
            Type::INT4 => out.put_i32(self.0),
            Type::INT8 => out.put_i64(self.0.into()),
            Type::TEXT => out.put_slice(format!("p{}", self.0).as_bytes()),
            _ => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column as it comes.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
