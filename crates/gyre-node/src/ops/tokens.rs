//! revoke_token and invalidate_user_tokens.

use gyre_core::ports::{Revocation, RevokedTokens};

use super::ApiError;
use crate::{clock, node::Node};

/// Bytes of a token id, user or channel at most.
const TEXT_BYTES_MAX: usize = 1024;

impl Node {
    /// From now on, refuses tokens: at connects, refreshes and subscriptions to come. Connections that were made with
    /// them stay. An `issued_before` of 0 stands for now.
    ///
    /// # Errors
    /// 107 for no token id or user, for texts of more than 1,024 bytes and for negative times; 100 if too many tokens are
    /// refused already.
    pub fn revoke(&self, mut revocation: Revocation) -> Result<(), ApiError> {
        let now = clock::now().unix_seconds().floor() as i64;
        let is_text = |text: &str| (1..=TEXT_BYTES_MAX).contains(&text.len());
        let is_meant = match &mut revocation.tokens {
            RevokedTokens::Id(id) => is_text(id),
            RevokedTokens::OfUser { user, channel, issued_before } => {
                if *issued_before == 0 {
                    *issued_before = now;
                }
                is_text(user) && channel.len() <= TEXT_BYTES_MAX && *issued_before > 0
            }
        };
        if !is_meant || revocation.expire_at < 0 {
            return Err(ApiError::BAD_REQUEST);
        }
        self.ports.authenticator.revoke(revocation, now).map_err(ApiError::from)
    }
}
