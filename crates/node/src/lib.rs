//! The launcher: runs the instances of services on this host, sealed, and reports them.
//!
//! It refuses to know what requests look like (that is `proxy`) and how configurations are computed and identities
//! issued (that is `control`, met here only as the trait [`registry::Registry`]).

pub mod launcher;
pub mod operation;
pub mod registry;

mod instance;
mod shared;
mod sidecar;

mod board;
pub mod container;
mod contents;
mod depend;
mod health;
mod reconcile;
mod record;
mod restart;

pub mod lockfile;
pub mod update;

mod beneath;
mod explicit;
mod listening;
mod logs;
pub mod plan;
mod processes;
pub mod programs;
mod stats;
mod traffic;
mod user;

pub mod folders;
pub mod process;

pub mod cgroup;
pub mod init;
pub mod seal;
