use buttress_core::Origin;

use crate::{Error, Inserted, Rows, insert::text::Target};

/// What a statement tells of the rows that it was given.
pub(crate) enum Done {
    /// How many were written.
    Counted(u64),
    /// Something of each that was written, in the order in which they were given.
    InOrder(Rows),
    /// The same, with the position of the one it is of in its last column.
    ByPosition(Rows),
}

impl Done {
    pub(crate) fn in_order(rows: Rows, target: &Target) -> Self {
        if target.returning.is_empty() { Self::Counted(rows.affected()) } else { Self::InOrder(rows) }
    }

    /// What became of each of so many rows.
    pub(crate) fn tell(self, sent: usize, instance: Origin) -> Vec<Result<Inserted, Error>> {
        let all = |inserted: Inserted| (0..sent).map(|_| Ok(inserted.clone())).collect();
        let untold = || (0..sent).map(|_| Err(Error::Untold { instance })).collect();
        match self {
            Self::Counted(0) => all(Inserted::SKIPPED),
            Self::Counted(written) if written == sent as u64 => all(Inserted::WRITTEN),
            Self::InOrder(rows) if rows.is_empty() => all(Inserted::SKIPPED),
            Self::InOrder(rows) if rows.len() == sent => {
                rows.into_iter().map(|row| Ok(Inserted::returning(row))).collect()
            }
            Self::Counted(_) | Self::InOrder(_) => untold(),
            Self::ByPosition(rows) => by_position(rows, sent, instance),
        }
    }
}

fn by_position(rows: Rows, sent: usize, instance: Origin) -> Vec<Result<Inserted, Error>> {
    let mut told: Vec<Option<Inserted>> = vec![None; sent];
    let mut strays = false;
    for row in rows {
        let last = row.as_driver().len() - 1;
        let place =
            row.get::<Option<i64>>(last).ok().flatten().and_then(|position| usize::try_from(position).ok());
        match place.and_then(|position| told.get_mut(position.checked_sub(1)?)) {
            Some(told) => {
                *told = Some(if last == 0 { Inserted::WRITTEN } else { Inserted::returning(row) });
            }
            None => strays = true,
        }
    }
    let missing = || if strays { Err(Error::Untold { instance }) } else { Ok(Inserted::SKIPPED) };
    told.into_iter().map(|told| told.map_or_else(missing, Ok)).collect()
}
