use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Data, DeriveInput, Error, Fields, Path, Type, WherePredicate, ext::IdentExt, parse_quote_spanned,
    spanned::Spanned,
};

use crate::{
    attributes::{Source, each, home},
    generics::depends_on,
};

/// `usual` is where the trait is, unless the struct says otherwise.
pub(crate) fn expand(input: &DeriveInput, usual: Path) -> Result<TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "FromRow is derived for structs"));
    };
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(Error::new(
            lifetime.span(),
            "what is read from a row owns its values: a `String`, for example, instead of a `&str`",
        ));
    }
    if data.fields.is_empty() {
        return Err(Error::new(input.ident.span(), "there is nothing to read: it has no fields"));
    }
    let home = home(&input.attrs, usual)?;

    let mut bounds = Vec::new();
    let mut read = |ty: &Type, source: &Source| {
        if depends_on(&input.generics, ty) {
            bounds.extend(needs(&home, ty, source));
        }
        reading(&home, ty, source)
    };
    let value = match &data.fields {
        Fields::Named(fields) => {
            let mut values = Vec::new();
            for field in &fields.named {
                let Some(name) = &field.ident else { unreachable!("these fields are named") };
                let value = read(&field.ty, &Source::of(field, name.unraw().to_string())?);
                values.push(quote!(#name: #value));
            }
            quote!(Self { #(#values),* })
        }
        Fields::Unnamed(fields) => {
            let mut values = Vec::new();
            for (index, field) in fields.unnamed.iter().enumerate() {
                each(&field.attrs, |meta| {
                    Err(meta.error("the fields of a tuple struct are read by their positions"))
                })?;
                values.push(read(&field.ty, &Source::Position(index)));
            }
            quote!(Self(#(#values),*))
        }
        Fields::Unit => unreachable!("it has fields"),
    };

    let mut generics = input.generics.clone();
    if !bounds.is_empty() {
        generics.make_where_clause().predicates.extend(bounds);
    }
    let (parameters, _, conditions) = generics.split_for_impl();
    let (_, arguments, _) = input.generics.split_for_impl();
    let name = &input.ident;
    // A parameter cannot have the name of a static that is in scope: hence one that nobody gives.
    Ok(quote! {
        #[automatically_derived]
        impl #parameters #home::FromRow for #name #arguments #conditions {
            fn from_row(__row: &#home::Row) -> ::core::result::Result<Self, #home::Error> {
                ::core::result::Result::Ok(#value)
            }
        }
    })
}

/// Where an error in the code that reads a field is shown: at the field's type. The names in it are this crate's, though,
/// also where the type was written by another macro.
fn place(ty: &Type) -> Span {
    ty.span().resolved_at(Span::call_site())
}

fn reading(home: &Path, ty: &Type, source: &Source) -> TokenStream {
    let span = place(ty);
    match source {
        Source::Position(index) => quote_spanned!(span=> #home::Row::get::<#ty>(__row, #index)?),
        Source::Column(name) => quote_spanned!(span=> #home::Row::get::<#ty>(__row, #name)?),
        Source::ColumnOrDefault(name) => quote_spanned! {span=>
            if #home::Row::has(__row, #name) {
                #home::Row::get::<#ty>(__row, #name)?
            } else {
                <#ty as ::core::default::Default>::default()
            }
        },
        Source::Flatten => quote_spanned!(span=> <#ty as #home::FromRow>::from_row(__row)?),
    }
}

/// What a field's type must be able to do.
fn needs(home: &Path, ty: &Type, source: &Source) -> Vec<WherePredicate> {
    let span = place(ty);
    let value: WherePredicate = parse_quote_spanned!(span=> #ty: #home::tokio_postgres::types::FromSqlOwned);
    match source {
        Source::Position(_) | Source::Column(_) => vec![value],
        Source::ColumnOrDefault(_) => {
            vec![value, parse_quote_spanned!(span=> #ty: ::core::default::Default)]
        }
        Source::Flatten => vec![parse_quote_spanned!(span=> #ty: #home::FromRow)],
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn refusal(input: &DeriveInput) -> String {
        expand(input, parse_quote!(::buttress_postgres)).expect_err("it is refused").to_string()
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        for (input, reason) in [
            (
                parse_quote!(
                    enum E {
                        A,
                    }
                ),
                "FromRow is derived for structs",
            ),
            (parse_quote!(union U { a: i32 }), "FromRow is derived for structs"),
            (
                parse_quote!(
                    struct S;
                ),
                "there is nothing to read",
            ),
            (
                parse_quote!(
                    struct S {}
                ),
                "there is nothing to read",
            ),
            (
                parse_quote!(
                    struct S<'a> {
                        name: &'a str,
                    }
                ),
                "a `String`, for example, instead of a `&str`",
            ),
        ] {
            let said = refusal(&input);
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn an_attribute_that_is_wrong_is_refused_with_its_reason() {
        for (input, reason) in [
            (
                parse_quote!(
                    struct S {
                        #[row(renamed = "b")]
                        a: i32,
                    }
                ),
                "a field has `rename = \"..\"`",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(rename)]
                        a: i32,
                    }
                ),
                "expected `=`",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(rename = 1)]
                        a: i32,
                    }
                ),
                "expected string literal",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(rename = "b", rename = "c")]
                        a: i32,
                    }
                ),
                "it is given twice",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(default)]
                        #[row(default)]
                        a: i32,
                    }
                ),
                "it is given twice",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(flatten, default)]
                        a: A,
                    }
                ),
                "`flatten` reads several columns",
            ),
            (
                parse_quote!(
                    struct S {
                        #[row(flatten, rename = "b")]
                        a: A,
                    }
                ),
                "`flatten` reads several columns",
            ),
            (
                parse_quote!(
                    struct S(#[row(rename = "b")] i32);
                ),
                "are read by their positions",
            ),
            (
                parse_quote!(
                    #[row(rename_all = "x")]
                    struct S {
                        a: i32,
                    }
                ),
                "a struct has `crate = \"..\"`",
            ),
            (
                parse_quote!(
                    #[row(crate = "a", crate = "b")]
                    struct S {
                        a: i32,
                    }
                ),
                "it is given twice",
            ),
        ] {
            let said = refusal(&input);
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn only_what_depends_on_a_parameter_is_asked_for() {
        let input: DeriveInput = parse_quote!(
            struct S<T, const N: usize> {
                id: i64,
                tags: Vec<T>,
                few: [u8; N],
            }
        );
        let code = expand(&input, parse_quote!(::buttress_postgres)).unwrap().to_string();
        assert!(code.contains("where Vec < T > : :: buttress_postgres :: tokio_postgres"), "{code}");
        assert!(!code.contains("i64 :") && !code.contains("N] :"), "{code}");
    }
}
