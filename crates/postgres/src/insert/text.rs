//! The statements of an insertion, as texts. Parameters are `:c1`, `:c2`, ..., one for each column.

use tokio_postgres::types::Type;

use crate::identifier::quoted;

/// What becomes of a row whose key is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// It is an error.
    Fail,
    /// It is left out.
    Skip { key: Vec<Box<str>> },
    /// It replaces these columns of the one that is there.
    Update { key: Vec<Box<str>>, columns: Vec<Box<str>> },
}

/// What a statement is made of.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As it is written in SQL.
    pub(crate) table: Box<str>,
    pub(crate) columns: Vec<Box<str>>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) returning: Vec<Box<str>>,
}

/// The name under which the position of a row comes back, from 1.
pub(crate) const POSITION: &str = "buttress_position";

impl OnConflict {
    pub(crate) fn key(&self) -> &[Box<str>] {
        match self {
            Self::Fail => &[],
            Self::Skip { key } | Self::Update { key, .. } => key,
        }
    }
}

impl Target {
    /// For one row.
    pub(crate) fn single(&self) -> String {
        let values = list(1..=self.columns.len(), |n| format!(":c{n}"));
        format!("{} values ({values}){}{}", self.insert(), self.conflict(), self.returning(&self.returned()))
    }

    /// For any number of rows; a parameter is an array of a column's values.
    pub(crate) fn arrays(&self, types: &[Type]) -> String {
        let arrays = list(types.iter().zip(1..), |(ty, n)| format!(":c{n}::{}[]", type_name(ty)));
        let columns = list(1..=self.columns.len(), |n| format!("c{n}"));
        let rows = format!("unnest({arrays}) with ordinality as u({columns}, n)");
        let (insert, returned) = (self.insert(), self.returned());
        match &self.on_conflict {
            OnConflict::Fail if returned.is_empty() => {
                format!("{insert} select * from unnest({arrays})")
            }
            // They come back in the order in which they were inserted.
            OnConflict::Fail => {
                format!("{insert} select {columns} from {rows} order by n{}", self.returning(&returned))
            }
            // Sorted by the key, as every batch is, so that two batches cannot each wait for a row of the other.
            OnConflict::Update { key, .. } => {
                let keys = self.numbers(key);
                let last =
                    format!("select distinct on ({keys}) {columns} from input order by {keys}, n desc");
                self.matched(&rows, &last, key, "input")
            }
            OnConflict::Skip { key } => {
                let keys = self.numbers(key);
                let all = format!("select {columns} from input order by {keys}, n");
                let first = format!("(select min(n) as n, {keys} from input group by {keys})");
                self.matched(&rows, &all, key, &first)
            }
        }
    }

    /// Whether what comes back for several rows says by [`POSITION`] whose it is.
    pub(crate) fn tells_positions(&self) -> bool {
        self.on_conflict != OnConflict::Fail
    }

    /// `COPY`, where there is neither a conflict to be settled nor anything to come back.
    pub(crate) fn copy(&self) -> Option<String> {
        let plain = self.on_conflict == OnConflict::Fail && self.returning.is_empty();
        plain.then(|| {
            let columns = list(&self.columns, |name| quoted(name));
            format!("copy {} ({columns}) from stdin (format binary)", self.table)
        })
    }

    /// What was written, beside the positions of the rows it was written for. A row that was written and is nobody's has
    /// no position: it tells that the table changed the key.
    fn matched(&self, rows: &str, chosen: &str, key: &[Box<str>], whose: &str) -> String {
        let keys = list(key.iter().zip(1..), |(name, n)| format!("{} as k{n}", quoted(name)));
        let values = list(self.returning.iter().zip(1..), |(name, n)| format!("{} as r{n}", quoted(name)));
        let sep = if values.is_empty() { "" } else { ", " };
        let back = list(self.returning.iter().zip(1..), |(name, n)| format!("d.r{n} as {}", quoted(name)));
        let same: Vec<_> =
            (1..).zip(key).map(|(n, name)| format!("d.k{n} = i.c{}", self.number(name))).collect();
        format!(
            "with input as materialized (select * from {rows}), \
             done as ({} {chosen}{} returning {keys}{sep}{values}) \
             select {back}{sep}i.n as {POSITION} from done d left join {whose} i on {}",
            self.insert(),
            self.conflict(),
            same.join(" and "),
        )
    }

    fn insert(&self) -> String {
        format!("insert into {} ({})", self.table, list(&self.columns, |name| quoted(name)))
    }

    fn conflict(&self) -> String {
        let target = |key: &[Box<str>]| list(key, |name| quoted(name));
        match &self.on_conflict {
            OnConflict::Fail => String::new(),
            OnConflict::Skip { key } => format!(" on conflict ({}) do nothing", target(key)),
            OnConflict::Update { key, columns } => {
                let set = list(columns, |name| format!("{0} = excluded.{0}", quoted(name)));
                format!(" on conflict ({}) do update set {set}", target(key))
            }
        }
    }

    fn returned(&self) -> String {
        list(&self.returning, |name| quoted(name))
    }

    fn returning(&self, what: &str) -> String {
        if what.is_empty() { String::new() } else { format!(" returning {what}") }
    }

    fn number(&self, column: &str) -> usize {
        1 + self.columns.iter().position(|name| **name == *column).expect("it was checked when it was built")
    }

    fn numbers(&self, columns: &[Box<str>]) -> String {
        list(columns, |name| format!("c{}", self.number(name)))
    }
}

fn type_name(ty: &Type) -> String {
    format!("{}.{}", quoted(ty.schema()), quoted(ty.name()))
}

fn list<I: IntoIterator>(items: I, show: impl FnMut(I::Item) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(", ")
}
