//! The format of old libraries: commands with `method` and `params`, one after another.
//!
//! Spec: centrifugo `internal/api/handler_legacy.go`.

use ::http::StatusCode;
use gyre_protocol::api;
use gyre_transport::http::Response;

use super::{HttpApi, execute, json, write_outcome};

impl HttpApi {
    /// Answers each command in order. `None` if one of them is malformed; then none is carried out.
    pub(super) async fn legacy(&self, body: &[u8]) -> Option<Response> {
        let commands = api::decode_legacy(body).ok()?;
        let mut out = Vec::new();
        for (i, command) in commands.into_iter().enumerate() {
            if i > 0 {
                out.push(b'\n');
            }
            let outcome = match command.request {
                Ok(request) => self.operations.run(request).await,
                Err(true) => Err(execute::bad_request()),
                Err(false) => Err(execute::not_found()),
            };
            let mut reply = Vec::new();
            write_outcome(&outcome, &mut reply);
            if command.id == 0 {
                out.extend_from_slice(&reply);
            } else {
                out.extend_from_slice(format!("{{\"id\":{},", command.id).as_bytes());
                out.extend_from_slice(&reply[1..]);
            }
        }
        Some(json(StatusCode::OK, out))
    }
}
