//! Rows of the program's as the protocol has them: a column's values one behind the other for `unnest`, or row by row for
//! `COPY`.

use std::{error::Error, slice};

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, WrongType, to_sql_checked};

use crate::{QueryError, insert::column::Column};

/// The most bytes of a statement's values. Postgres refuses 1 GiB, and has them in memory several times.
pub(crate) const MOST_BYTES: usize = 256 * 1024 * 1024;

/// Rows that are not sent, by their place.
pub(crate) type Refused = Vec<(usize, QueryError)>;

/// How rows are written.
pub(crate) struct Encoder<'a, T> {
    pub(crate) columns: &'a [Column<T>],
    pub(crate) types: &'a [Type],
    /// Places of the columns that must not be null.
    pub(crate) key: &'a [usize],
}

impl<T> Encoder<'_, T> {
    /// One array for each column, of the rows that can be written.
    ///
    /// # Errors
    /// If they are more bytes than a statement may have.
    pub(crate) fn arrays(&self, rows: &[T], refused: &mut Refused) -> Result<Vec<Array>, QueryError> {
        let mut arrays: Vec<_> = self.types.iter().map(|ty| Array::new(ty, rows.len())).collect();
        for (place, row) in rows.iter().enumerate() {
            if let Err(error) = self.add(row, &mut arrays) {
                refused.push((place, error));
            }
            let bytes: usize = arrays.iter().map(|array| array.bytes.len()).sum();
            if bytes > MOST_BYTES {
                return Err(QueryError::TooLarge { bytes, most: MOST_BYTES });
            }
        }
        Ok(arrays)
    }

    fn add(&self, row: &T, arrays: &mut [Array]) -> Result<(), QueryError> {
        for (at, array) in arrays.iter_mut().enumerate() {
            array.mark = array.bytes.len();
            if let Err(error) = self.value(row, at, &mut array.bytes).map(|null| array.nulls |= null) {
                for array in &mut arrays[..=at] {
                    array.bytes.truncate(array.mark);
                }
                return Err(error);
            }
        }
        arrays.iter_mut().for_each(|array| array.count += 1);
        Ok(())
    }

    /// The values of one row.
    ///
    /// # Errors
    /// If one of them cannot be written, or they are more bytes than a statement may have.
    pub(crate) fn single(&self, row: &T) -> Result<Vec<Scalar>, QueryError> {
        let mut total = 0;
        let scalar = |(at, ty): (usize, &Type)| {
            let mut bytes = BytesMut::new();
            let null = self.value(row, at, &mut bytes)?;
            total += bytes.len();
            // Without its length.
            Ok(Scalar { ty: ty.clone(), value: (!null).then(|| bytes.split_off(4).freeze()) })
        };
        let scalars = self.types.iter().enumerate().map(scalar).collect::<Result<_, _>>()?;
        if total > MOST_BYTES {
            return Err(QueryError::TooLarge { bytes: total, most: MOST_BYTES });
        }
        Ok(scalars)
    }

    /// Adds a row as `COPY` has it, or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn copied(&self, row: &T, out: &mut BytesMut) -> Result<(), QueryError> {
        let start = out.len();
        let columns = i16::try_from(self.columns.len()).expect("a table has 1,600 columns at most");
        out.put_i16(columns);
        let written = (0..self.columns.len()).try_for_each(|at| self.value(row, at, out).map(drop));
        let bytes = out.len() - start;
        let written = match written {
            Ok(()) if bytes > MOST_BYTES => Err(QueryError::TooLarge { bytes, most: MOST_BYTES }),
            written => written,
        };
        written.inspect_err(|_| out.truncate(start))
    }

    /// Whether it is null.
    fn value(&self, row: &T, at: usize, out: &mut BytesMut) -> Result<bool, QueryError> {
        let column = &self.columns[at];
        match column.write(row, &self.types[at], out)? {
            IsNull::Yes if self.key.contains(&at) => Err(QueryError::Unfit {
                name: column.name.clone(),
                reason: "it is part of the key by which conflicts are found, and must not be null".into(),
            }),
            IsNull::Yes => Ok(true),
            IsNull::No => Ok(false),
        }
    }
}

/// A column's values.
#[derive(Debug)]
pub(crate) struct Array {
    member: Type,
    count: usize,
    nulls: bool,
    bytes: BytesMut,
    /// Where the row that is being added begins.
    mark: usize,
}

impl Array {
    fn new(member: &Type, rows: usize) -> Self {
        let bytes = BytesMut::with_capacity(rows.saturating_mul(16).min(64 * 1024));
        Self { member: member.clone(), count: 0, nulls: false, bytes, mark: 0 }
    }
}

impl ToSql for Array {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match ty.kind() {
            Kind::Array(member) if *member == self.member => {}
            _ => return Err(Box::new(WrongType::new::<Self>(ty.clone()))),
        }
        out.put_i32(1);
        out.put_i32(i32::from(self.nulls));
        out.put_u32(self.member.oid());
        out.put_i32(i32::try_from(self.count)?);
        out.put_i32(1);
        out.put_slice(&self.bytes);
        Ok(IsNull::No)
    }

    /// Which it is shows when it is written.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// One value.
#[derive(Debug)]
pub(crate) struct Scalar {
    ty: Type,
    value: Option<Bytes>,
}

impl ToSql for Scalar {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if *crate::insert::column::written_as(ty) != self.ty {
            return Err(Box::new(WrongType::new::<Self>(ty.clone())));
        }
        Ok(match &self.value {
            Some(value) => {
                out.put_slice(value);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The rows of a `COPY`, in parts of some size.
pub(crate) struct Parts<'a, T> {
    encoder: &'a Encoder<'a, T>,
    rows: std::iter::Enumerate<slice::Iter<'a, T>>,
    refused: &'a mut Refused,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// A part of so many bytes is sent as soon as it is there: the server works while the next is written.
const PART: usize = 64 * 1024;
/// PostgreSQL's documentation of `COPY`, "Binary Format": the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(encoder: &'a Encoder<'a, T>, rows: &'a [T], refused: &'a mut Refused) -> Self {
        Self { encoder, rows: rows.iter().enumerate(), refused, state: State::Header }
    }
}

impl<T> Iterator for Parts<'_, T> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.state == State::Ended {
            return None;
        }
        let mut part = BytesMut::with_capacity(PART + PART / 8);
        if self.state == State::Header {
            part.put_slice(HEADER);
            self.state = State::Rows;
        }
        while part.len() < PART {
            let Some((place, row)) = self.rows.next() else {
                part.put_i16(-1);
                self.state = State::Ended;
                break;
            };
            if let Err(error) = self.encoder.copied(row, &mut part) {
                self.refused.push((place, error));
            }
        }
        Some(part.freeze())
    }
}
