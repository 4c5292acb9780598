//! The live page: a router with one static page, and a stream of figures that all pages share.

mod act;
mod builder;
mod closing;
mod feed;
mod frame;
mod page;
mod routes;
mod serve;

pub use self::{
    builder::{Dashboard, DashboardBuilder, InvalidDashboard},
    serve::Serving,
};
