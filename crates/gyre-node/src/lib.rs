//! Shard threads, operations and the node of Gyre
