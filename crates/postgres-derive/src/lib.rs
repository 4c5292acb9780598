#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attributes;
mod expand;
mod generics;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Reads a struct from a row: its fields by their names, those of a tuple struct by their positions.
///
/// See the [crate's documentation](crate).
#[proc_macro_derive(FromRow, attributes(row))]
pub fn derive_from_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}
