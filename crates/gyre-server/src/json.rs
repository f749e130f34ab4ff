//! What the readers of JSON share.

use serde::{Deserialize, de::DeserializeOwned};

/// Reads `null` as the default value, as backends write what they leave empty.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
