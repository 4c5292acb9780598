#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attributes;
mod expand;
mod generics;

use proc_macro::TokenStream;
use syn::{DeriveInput, Path, parse_macro_input, parse_quote};

/// Reads a struct from a row: its fields by their names, those of a tuple struct by their positions.
///
/// See the [crate's documentation](crate).
#[proc_macro_derive(FromRow, attributes(row))]
pub fn derive_from_row(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput), parse_quote!(::buttress_postgres))
}

/// The same for those who know buttress-postgres by the face crate alone, which gives it out as `FromRow`.
#[doc(hidden)]
#[proc_macro_derive(FromRowOfButtress, attributes(row))]
pub fn derive_from_row_of_buttress(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput), parse_quote!(::buttress::postgres))
}

fn derive(input: &DeriveInput, usual: Path) -> TokenStream {
    expand::expand(input, usual).unwrap_or_else(|error| error.into_compile_error()).into()
}
