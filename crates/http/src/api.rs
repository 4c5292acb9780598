//! `ApiClient`: what a program calls an API by, around any stack of layers.

mod base;
mod body;
mod builder;
mod client;
mod content;
mod error;
mod headers;
mod path;
mod redirect;
mod request;
mod response;
mod sending;
mod setting;
mod stack;
mod status;
#[cfg(feature = "zstd")]
mod zstd_window;

pub use self::{
    body::ApiBody, builder::ApiBuilder, client::ApiClient, content::ContentError, error::ApiError,
    request::ApiRequest, response::ApiResponse, sending::Sending, setting::InvalidSetting,
    status::StatusError,
};
