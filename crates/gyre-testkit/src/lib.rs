//! Test client, port suites and transcripts for Gyre
