//! The requests under way on all HTTP/2 connections of a worker: one flat table, no allocation for each.

use std::cell::RefCell;

use super::exchange::Exchange;

/// Names an exchange. One that is over is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    serial: u64,
}

#[derive(Default)]
pub struct Exchanges(RefCell<Table>);

#[derive(Default)]
struct Table {
    slots: Vec<Option<(u64, Exchange)>>,
    free: Vec<u32>,
    serial: u64,
}

impl Exchanges {
    pub fn insert(&self, exchange: Exchange) -> Ticket {
        let mut table = self.0.borrow_mut();
        table.serial += 1;
        let serial = table.serial;
        let slot = match table.free.pop() {
            Some(slot) => {
                table.slots[slot as usize] = Some((serial, exchange));
                slot
            }
            None => {
                table.slots.push(Some((serial, exchange)));
                table.slots.len() as u32 - 1
            }
        };
        Ticket { slot, serial }
    }

    /// `None`: it is over.
    pub fn with<T>(&self, ticket: Ticket, use_it: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        let mut table = self.0.borrow_mut();
        match table.slots.get_mut(ticket.slot as usize) {
            Some(Some((serial, exchange))) if *serial == ticket.serial => Some(use_it(exchange)),
            _ => None,
        }
    }

    pub fn remove(&self, ticket: Ticket) -> Option<Exchange> {
        let mut table = self.0.borrow_mut();
        let place = table.slots.get_mut(ticket.slot as usize)?;
        let (_, exchange) = place.take_if(|(serial, _)| *serial == ticket.serial)?;
        table.free.push(ticket.slot);
        Some(exchange)
    }

    /// Gives memory back that only traffic needs.
    pub fn release(&self) {
        let mut table = self.0.borrow_mut();
        if table.free.len() == table.slots.len() {
            (table.slots, table.free) = (Vec::new(), Vec::new());
        }
    }
}
