use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Generics, Type};

/// Whether a type has one of the struct's type parameters in it, so that what it can do has to be asked for.
pub(crate) fn depends_on(generics: &Generics, ty: &Type) -> bool {
    let is_one = |word: &proc_macro2::Ident| generics.type_params().any(|param| param.ident == *word);
    any(ty.to_token_stream(), &is_one)
}

fn any(tokens: TokenStream, is_one: &impl Fn(&proc_macro2::Ident) -> bool) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => is_one(&word),
        TokenTree::Group(group) => any(group.stream(), is_one),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
