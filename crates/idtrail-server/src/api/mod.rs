//! The HTTP interface, one module per group of routes.

pub mod oauth;
