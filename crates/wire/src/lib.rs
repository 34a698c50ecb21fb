//! sans-IO protocol engines
