//! One budget for the memory of a process, and how short it is. What follows from that is decided where requests and
//! connections come from: above seven eighths new requests are refused and clients that wait for their next request are
//! closed, longest idle first; above all of it new connections are refused too, nothing is read ahead, and streams whose
//! peer takes nothing are given up. What else is under way goes on.

use std::cell::Cell;

use crate::Memory;

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    #[default]
    None,
    /// No new requests.
    Short,
    /// No new connections either.
    Out,
}

/// A budget that is smaller would be used up by a configuration and what every worker has.
pub const BYTES_MAX_MIN: u64 = 16 * 1024 * 1024;

pub struct Budget {
    inputs: Memory,
    bytes_max: Cell<usize>,
    /// As it was when somebody asked the allocator last.
    seen: Cell<Pressure>,
}

impl Budget {
    /// `configured`: 0 for what was found out about the host.
    pub fn new(inputs: Memory, configured: u64) -> Self {
        let budget = Self { bytes_max: Cell::new(0), inputs, seen: Cell::default() };
        budget.configure(configured);
        budget
    }

    pub fn configure(&self, configured: u64) {
        let bytes_max = match usize::try_from(configured) {
            Ok(0) => self.inputs.bytes_max,
            configured => configured.unwrap_or(usize::MAX),
        };
        self.bytes_max.set(bytes_max);
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max.get()
    }

    pub fn bytes_in_use(&self) -> usize {
        (self.inputs.bytes_in_use)()
    }

    /// Asks the allocator. For every new request and connection, and once a second.
    pub fn look(&self) -> Pressure {
        let (used, max) = (self.bytes_in_use(), self.bytes_max.get());
        let pressure = match () {
            () if used >= max => Pressure::Out,
            () if used >= max - max / 8 => Pressure::Short,
            () => Pressure::None,
        };
        self.seen.set(pressure);
        pressure
    }

    /// Nothing is to be held that need not be. As it was last seen: for every turn of a connection.
    pub fn is_out(&self) -> bool {
        self.seen.get() == Pressure::Out
    }
}

#[cfg(test)]
mod tests;
