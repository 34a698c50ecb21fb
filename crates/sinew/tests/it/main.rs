//! The whole binary, from the outside: what a user types, sees and is left with.

mod bounds;
mod cli;
mod clients;
mod container;
mod explicit;
mod grpc;
mod habits;
mod harness;
mod hidden;
mod hostile;
mod images;
mod install;
mod launcher;
mod lifetimes;
mod live;
mod load;
mod logs;
mod loopback;
mod memory;
mod outlier;
mod pages;
mod refused;
mod seal;
mod server_first;
mod sidecar;
mod upgrade;
