//! The Gyre server: configuration, authentication, server API, metrics, development mode, and how it all is put
//! together.

pub mod acme;
pub mod admin;
pub mod api;
pub mod auth;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod debug;
pub mod dev;
pub mod health;
pub mod hooks;
mod json;
mod listeners;
pub mod logging;
pub mod metrics;
pub mod rate;
pub mod routes;
pub mod secret;
pub mod swagger;
pub mod telemetry;
pub mod wiring;
