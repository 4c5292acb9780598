use std::{fmt, sync::Arc};

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Type};

use crate::{Query, cache::versions::Version, query::Value};

/// What an answer is kept under: the text, the values, and which state of its tables it belongs to.
///
/// Two queries have the same key only if they have the same text and the same values of the same types. `Debug` shows no
/// value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct QueryKey {
    /// Each part stands behind its length, so that no two lists are written alike.
    bytes: Arc<[u8]>,
    version: Version,
}

/// A key that is longer is not worth its place.
const MOST_BYTES: usize = 64 * 1024;

/// As what values are written, where they can be. Which type the server wants is not known yet; a value is written as each of
/// these that it takes, beside the type's number.
///
/// The other names of text are missing on purpose: what takes them takes `TEXT`.
const SCALARS: [Type; 28] = [
    Type::INT8,
    Type::TEXT,
    Type::INT4,
    Type::UUID,
    Type::BOOL,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMP,
    Type::DATE,
    Type::INT2,
    Type::FLOAT8,
    Type::FLOAT4,
    Type::NUMERIC,
    Type::BYTEA,
    Type::JSONB,
    Type::JSON,
    Type::OID,
    Type::CHAR,
    Type::TIME,
    Type::TIMETZ,
    Type::INTERVAL,
    Type::INET,
    Type::CIDR,
    Type::MACADDR,
    Type::BIT,
    Type::VARBIT,
    Type::POINT,
    Type::BOX,
    Type::PG_LSN,
];
/// Tried where a value takes none of those.
const ARRAYS: [Type; 28] = [
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::UUID_ARRAY,
    Type::BOOL_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TIMESTAMP_ARRAY,
    Type::DATE_ARRAY,
    Type::INT2_ARRAY,
    Type::FLOAT8_ARRAY,
    Type::FLOAT4_ARRAY,
    Type::NUMERIC_ARRAY,
    Type::BYTEA_ARRAY,
    Type::JSONB_ARRAY,
    Type::JSON_ARRAY,
    Type::OID_ARRAY,
    Type::CHAR_ARRAY,
    Type::TIME_ARRAY,
    Type::TIMETZ_ARRAY,
    Type::INTERVAL_ARRAY,
    Type::INET_ARRAY,
    Type::CIDR_ARRAY,
    Type::MACADDR_ARRAY,
    Type::BIT_ARRAY,
    Type::VARBIT_ARRAY,
    Type::POINT_ARRAY,
    Type::BOX_ARRAY,
    Type::PG_LSN_ARRAY,
];
/// In place of a length. None is as long.
const NULL: u32 = u32::MAX;

impl QueryKey {
    /// The key of a query; none, if it is too long, or a value is of a type that cannot be written.
    pub(crate) fn new(query: &Query, version: Version) -> Option<Self> {
        let mut out = BytesMut::with_capacity(query.text().len().min(MOST_BYTES) + 64);
        put(&mut out, query.text().as_bytes())?;
        let mut values: Vec<(&str, &dyn Value)> = query.values().collect();
        values.sort_by_key(|(name, _)| *name);
        for (name, value) in values {
            put(&mut out, name.as_bytes())?;
            put_value(&mut out, value)?;
        }
        Some(Self { bytes: (&*out).into(), version })
    }

    /// How many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn put(out: &mut BytesMut, part: &[u8]) -> Option<()> {
    if part.len() > MOST_BYTES - out.len() {
        return None;
    }
    out.put_u32(u32::try_from(part.len()).ok()?);
    out.put_slice(part);
    (out.len() <= MOST_BYTES).then_some(())
}

/// As each type of the list that takes it: a type of the user's own may write two values alike as one of them, and not as
/// another.
fn put_value(out: &mut BytesMut, value: &dyn Value) -> Option<()> {
    let count = out.len();
    out.put_u8(0);
    for list in [&SCALARS, &ARRAYS] {
        for ty in list.iter().filter(|ty| value.takes(ty)) {
            put_as(out, value, ty)?;
            out[count] += 1;
        }
        if out[count] > 0 {
            return Some(());
        }
    }
    None
}

fn put_as(out: &mut BytesMut, value: &dyn Value, ty: &Type) -> Option<()> {
    out.put_u32(ty.oid());
    let at = out.len();
    out.put_u32(NULL);
    let is_null = matches!(value.to_sql_checked(ty, out).ok()?, IsNull::Yes);
    let len = if is_null {
        out.truncate(at + 4);
        NULL
    } else {
        u32::try_from(out.len() - at - 4).ok()?
    };
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    (out.len() <= MOST_BYTES).then_some(())
}

impl fmt::Debug for QueryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryKey").field("len", &self.len()).field("version", &self.version).finish()
    }
}

#[cfg(test)]
mod tests;
