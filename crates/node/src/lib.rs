//! The launcher: runs the instances of services on this host, sealed, and reports them.
//!
//! It refuses to know what requests look like (that is `proxy`) and how configurations are computed and identities
//! issued (that is `control`, met here only as the trait [`registry::Registry`]).

pub mod operation;
pub mod registry;

pub mod reconcile;
pub mod restart;

pub mod health;

pub mod plan;
pub mod programs;
pub mod user;

pub mod folders;
pub mod process;

pub mod cgroup;
pub mod init;
pub mod seal;
