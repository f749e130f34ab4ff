//! JSON lines and length-delimited Protobuf.
use crate::{Push, Reply};
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    pub ascii: bool,
    pub unidirectional: bool,
    pub delta: bool,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    NotJson,
}
impl Encoding {
    pub fn encode_reply(self, _: &Reply, _: &EncodeOptions, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
    pub fn encode_push(self, _: &Push, _: &EncodeOptions, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
}
