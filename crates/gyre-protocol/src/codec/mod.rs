//! JSON lines and length-delimited Protobuf.
