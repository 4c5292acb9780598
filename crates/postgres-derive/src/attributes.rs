use syn::{Attribute, Error, Field, LitStr, Path, meta::ParseNestedMeta, spanned::Spanned};

/// How a field is read.
pub(crate) enum Source {
    /// From the column at this position.
    Position(usize),
    /// From the column of this name.
    Column(String),
    /// From the column of this name, or by `Default` where there is none.
    ColumnOrDefault(String),
    /// From the same row, by its own `FromRow`.
    Flatten,
}

impl Source {
    /// Of a field that has this name.
    pub(crate) fn of(field: &Field, name: String) -> Result<Self, Error> {
        let (mut column, mut default, mut flatten) = (None::<String>, false, false);
        each(&field.attrs, |meta| {
            let twice = if meta.path.is_ident("rename") {
                let name: LitStr = meta.value()?.parse()?;
                column.replace(name.value()).is_some()
            } else if meta.path.is_ident("default") {
                std::mem::replace(&mut default, true)
            } else if meta.path.is_ident("flatten") {
                std::mem::replace(&mut flatten, true)
            } else {
                return Err(meta.error("a field has `rename = \"..\"`, `default` or `flatten`"));
            };
            if twice { Err(meta.error("it is given twice")) } else { Ok(()) }
        })?;
        match (column, default, flatten) {
            (None, false, true) => Ok(Self::Flatten),
            (_, _, true) => Err(Error::new(
                field.span(),
                "`flatten` reads several columns: neither `rename` nor `default` has a meaning beside it",
            )),
            (column, false, false) => Ok(Self::Column(column.unwrap_or(name))),
            (column, true, false) => Ok(Self::ColumnOrDefault(column.unwrap_or(name))),
        }
    }
}

/// Where the trait is to be found: the usual path, unless the struct says otherwise.
pub(crate) fn home(attributes: &[Attribute], usual: Path) -> Result<Path, Error> {
    let mut said = None;
    each(attributes, |meta| {
        if !meta.path.is_ident("crate") {
            return Err(meta.error("a struct has `crate = \"..\"`, the path of buttress-postgres"));
        }
        let twice = said.replace(meta.value()?.parse::<LitStr>()?.parse()?).is_some();
        if twice { Err(meta.error("it is given twice")) } else { Ok(()) }
    })?;
    Ok(said.unwrap_or(usual))
}

/// Calls it for each of what stands in the `#[row(..)]`s.
pub(crate) fn each(
    attributes: &[Attribute],
    mut visit: impl FnMut(ParseNestedMeta<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let ours = attributes.iter().filter(|attribute| attribute.path().is_ident("row"));
    ours.into_iter().try_for_each(|attribute| attribute.parse_nested_meta(&mut visit))
}
