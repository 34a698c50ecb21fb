//! Images as `up`, `update` and `bundle` see them: which one a reference means is decided once, recorded in
//! `sinew.lock`, and changed only by an update that was proven.

pub mod engine;
pub mod pin;
pub mod resolve;
pub mod store;
