//! Bundles: an application in one file, for places without a network (`docs/air-gapped.md`).

pub mod load;
pub mod read;
pub mod save;
pub mod sign;
mod tar;
pub mod write;
