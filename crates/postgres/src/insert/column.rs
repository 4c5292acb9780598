use std::{error::Error, fmt, sync::Arc};

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type};

use crate::QueryError;

type Write<T> =
    dyn Fn(&T, &Type, &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> + Send + Sync;

/// A column that is written, and where its value is in a row of the program's.
pub(crate) struct Column<T> {
    pub(crate) name: Box<str>,
    accepts: fn(&Type) -> bool,
    rust_type: &'static str,
    write: Arc<Write<T>>,
}

impl<T> Column<T> {
    pub(crate) fn new<V: ToSql>(
        name: Box<str>,
        value: impl for<'a> Fn(&'a T) -> &'a V + Send + Sync + 'static,
    ) -> Self {
        let write = Arc::new(move |row: &T, ty: &Type, out: &mut BytesMut| value(row).to_sql(ty, out));
        Self { name, accepts: V::accepts, rust_type: std::any::type_name::<V>(), write }
    }

    pub(crate) fn computed<V: ToSql>(
        name: Box<str>,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Self {
        let write = Arc::new(move |row: &T, ty: &Type, out: &mut BytesMut| value(row).to_sql(ty, out));
        Self { name, accepts: V::accepts, rust_type: std::any::type_name::<V>(), write }
    }

    /// # Errors
    /// If values of this Rust type are none of the column's.
    pub(crate) fn check(&self, ty: &Type) -> Result<(), QueryError> {
        if (self.accepts)(ty) {
            return Ok(());
        }
        let reason =
            format!("cannot convert between the Rust type `{}` and the Postgres type `{ty}`", self.rust_type);
        Err(QueryError::Unfit { name: self.name.clone(), reason: reason.into() })
    }

    /// Writes a value as the protocol has it, behind its length.
    ///
    /// # Errors
    /// If it cannot be written; what stands in `out` behind its old end is of no use then.
    pub(crate) fn write(&self, row: &T, ty: &Type, out: &mut BytesMut) -> Result<IsNull, QueryError> {
        let unfit = |reason: String| QueryError::Unfit { name: self.name.clone(), reason: reason.into() };
        let at = out.len();
        out.put_i32(-1);
        let start = out.len();
        // The error may quote the value.
        let null = (self.write)(row, ty, out)
            .map_err(|_| unfit(format!("its value cannot be written as the Postgres type `{ty}`")))?;
        if let IsNull::No = null {
            let length = i32::try_from(out.len() - start)
                .map_err(|_| unfit("its value is larger than 2 GiB".to_owned()))?;
            out[at..start].copy_from_slice(&length.to_be_bytes());
        }
        Ok(null)
    }
}

/// What the values of a column are written as. A domain's are those of the type below it.
pub(crate) fn written_as(ty: &Type) -> &Type {
    match ty.kind() {
        Kind::Domain(below) => written_as(below),
        _ => ty,
    }
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), write: Arc::clone(&self.write), ..*self }
    }
}

impl<T> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("name", &self.name).field("rust_type", &self.rust_type).finish()
    }
}
