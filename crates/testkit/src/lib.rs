//! in-process harness for tests
