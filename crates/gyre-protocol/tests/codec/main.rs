//! The codecs seen from outside: recorded bytes, rules of decoding, and properties over arbitrary input.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod api_protobuf;
mod decoding;
mod encoding;
mod golden;
mod properties;
mod tree;
