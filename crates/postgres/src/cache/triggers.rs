//! The triggers that tell of changes, and what is asked of the catalogue about them.

use buttress_core::Origin;
use tokio_postgres::Client;

use crate::{Error, QueryError, Table};

/// On which the triggers notify.
pub(crate) const CHANNEL: &str = "buttress_cache";

/// Of each of the tables, in their order: whether it is there, and whether its trigger is and works.
const LOOK: &str = "\
select c.oid is not null, exists (
    select from pg_catalog.pg_trigger t
        join pg_catalog.pg_proc p on p.oid = t.tgfoid
        join pg_catalog.pg_namespace s on s.oid = p.pronamespace
    where t.tgrelid = c.oid and t.tgname = 'buttress_cache' and t.tgenabled <> 'D'
        and t.tgtype = 60 and t.tgqual is null and t.tgattr = ''::pg_catalog.int2vector
        and s.nspname = 'buttress' and p.proname = 'table_changed'
)
from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
        with ordinality as wanted (schema, name, number)
    left join pg_catalog.pg_namespace n on n.nspname = wanted.schema
    left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p')
order by wanted.number";

const SCHEMA_IS_THERE: &str =
    "select exists (select from pg_catalog.pg_namespace where nspname = 'buttress')";

const FUNCTION_IS_THERE: &str = "\
select exists (
    select from pg_catalog.pg_proc p join pg_catalog.pg_namespace s on s.oid = p.pronamespace
    where s.nspname = 'buttress' and p.proname = 'table_changed'
)";

const CREATE_SCHEMA: &str = "create schema buttress; grant usage on schema buttress to public;";

const CREATE_FUNCTION: &str = "\
create function buttress.table_changed() returns trigger language plpgsql as $$
begin
    perform pg_catalog.pg_notify('buttress_cache', pg_catalog.format('%s.%s', tg_table_schema, tg_table_name));
    return null;
end
$$;";

/// One at a time installs: two that make the same schema would fail, whatever `if not exists` says. Whoever has to wait for a
/// lock on a busy table lets others wait behind him, so he does not wait for long. Each statement looks anew.
const BEGIN: &str = "\
begin isolation level read committed read write;
set local lock_timeout = '20s';
select pg_catalog.pg_advisory_xact_lock(7094703618327831411);
set local lock_timeout = '2s';";

fn create_trigger(table: &Table) -> String {
    let table = table.quoted();
    format!(
        "drop trigger if exists buttress_cache on {table};
create trigger buttress_cache after insert or update or delete or truncate on {table}
    for each statement execute function buttress.table_changed();"
    )
}

/// A connection that looks after triggers.
pub(crate) struct Triggers<'a> {
    pub(crate) client: &'a Client,
    pub(crate) instance: Origin,
}

impl Triggers<'_> {
    /// The tables whose trigger is missing.
    ///
    /// # Errors
    /// Also if one of the tables is missing.
    pub(crate) async fn missing(&self, tables: &[Table]) -> Result<Vec<Table>, Error> {
        let (there, missing) = self.look(tables).await?;
        match there.iter().position(|there| !there) {
            None => Ok(missing),
            Some(absent) => {
                let cause = QueryError::NoTable(tables[absent].to_string().into());
                Err(Error::Query { instance: self.instance, cause })
            }
        }
    }

    /// Makes sure that each table has its trigger. Where it has, nothing is written or locked.
    pub(crate) async fn install(&self, tables: &[Table]) -> Result<(), Error> {
        for table in self.missing(tables).await? {
            // One table at a time: whoever held one and waited for another could wait in a circle.
            self.run(BEGIN).await?;
            if !self.is_true(SCHEMA_IS_THERE).await? {
                self.run(CREATE_SCHEMA).await?;
            }
            if !self.is_true(FUNCTION_IS_THERE).await? {
                self.run(CREATE_FUNCTION).await?;
            }
            if !self.missing(std::slice::from_ref(&table)).await?.is_empty() {
                self.run(&create_trigger(&table)).await?;
            }
            self.run("commit").await?;
        }
        Ok(())
    }

    pub(crate) async fn listen(&self) -> Result<(), Error> {
        self.run(&format!("listen {CHANNEL}")).await
    }

    pub(crate) async fn remove(&self, tables: &[Table]) -> Result<(), Error> {
        let (there, missing) = self.look(tables).await?;
        for (table, there) in tables.iter().zip(there) {
            if there && !missing.contains(table) {
                let drop = format!("drop trigger if exists buttress_cache on {};", table.quoted());
                self.run(&format!("{BEGIN}\n{drop}\ncommit")).await?;
            }
        }
        Ok(())
    }

    /// Whether each is there, and those of them whose trigger is not.
    async fn look(&self, tables: &[Table]) -> Result<(Vec<bool>, Vec<Table>), Error> {
        let schemas: Vec<&str> = tables.iter().map(Table::schema).collect();
        let names: Vec<&str> = tables.iter().map(Table::name).collect();
        let rows = self.client.query(LOOK, &[&schemas, &names]).await.map_err(|cause| self.failed(cause))?;
        let mut there = Vec::with_capacity(tables.len());
        let mut missing = Vec::new();
        for (row, table) in rows.iter().zip(tables) {
            let is_there = self.read(row, 0)?;
            there.push(is_there);
            if is_there && !self.read(row, 1)? {
                missing.push(table.clone());
            }
        }
        Ok((there, missing))
    }

    async fn is_true(&self, sql: &str) -> Result<bool, Error> {
        let row = self.client.query_one(sql, &[]).await.map_err(|cause| self.failed(cause))?;
        self.read(&row, 0)
    }

    fn read(&self, row: &tokio_postgres::Row, column: usize) -> Result<bool, Error> {
        row.try_get(column).map_err(|cause| self.failed(cause))
    }

    async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: tokio_postgres::Error) -> Error {
        Error::of_statement(self.instance, cause, false)
    }
}
