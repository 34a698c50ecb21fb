//! The control plane: what the application should be (store), what is there (registry), and what every proxy is told
//! about it (snapshot), pushed over one Unix socket per proxy.
//!
//! It refuses to know how instances are started and how requests are served: the launcher tells it what lives, proxies
//! tell it what they serve. No request passes through it; when it is gone, everything goes on with what it has.

mod plane;

mod addresses;
mod registry;
mod serve;
mod snapshot;
mod store;
pub mod upgrade;

pub use plane::{Applied, Control, ControlOptions, ControlStatus, Entry, Error, Hosts};
pub use registry::{Epoch, GRACE, Routing};
pub use store::{Change, Event, Expected, Record, Store, StoreError, Watch};
