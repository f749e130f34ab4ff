//! The Gyre server: configuration, authentication, API, development mode
pub mod auth;
pub mod dev;
