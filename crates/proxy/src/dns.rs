//! Names inside the seal: known ones have their virtual address, all others do not exist.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::worker::Worker;

/// Virtual addresses stay the same, but a service may come or go.
const TTL_SECONDS: u32 = 5;
/// The largest query that is looked at (RFC 1035, 2.3.4; EDNS queries are hardly larger).
const QUERY_BYTES_MAX: usize = 1232;
/// A client on TCP that says nothing.
const STREAM_IDLE: Duration = Duration::from_secs(10);

/// Answers datagrams until dropped.
pub async fn serve(worker: Rc<Worker>, socket: &UdpSocket) {
    let mut query = vec![0; QUERY_BYTES_MAX];
    loop {
        match socket.recv_from(&mut query).await {
            Ok((length, from)) => {
                let snapshot = worker.snapshot();
                if let Some(answer) = answer(&query[..length], |name| snapshot.resolve(name)) {
                    // A client that is gone does not wait for an answer.
                    let _ = socket.try_send_to(&answer, from);
                }
            }
            // The report of a client that did not wait (ECONNREFUSED), or a passing lack of memory.
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// DNS over TCP (RFC 7766): each message has its length in front.
pub async fn serve_stream(worker: &Worker, mut client: Connection) {
    loop {
        while let Some((used, query)) = framed(client.input.data()) {
            let snapshot = worker.snapshot();
            let Some(mut answer) = answer(query, |name| snapshot.resolve(name)) else { return };
            let Ok(length) = u16::try_from(answer.len()) else { return };
            answer.splice(..0, length.to_be_bytes());
            client.input.consume(used);
            if !matches!(timeout(STREAM_IDLE, client.send(&answer)).await, Ok(Ok(()))) {
                return;
            }
        }
        if client.input.len() > 2 + QUERY_BYTES_MAX {
            return;
        }
        client.rest();
        if !matches!(timeout(STREAM_IDLE, client.fill()).await, Ok(Ok(1..))) {
            return;
        }
    }
}

/// The first whole message, and how much it takes with its length.
fn framed(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    rest.get(..length).map(|message| (2 + length, message))
}

/// The answer to one query. `None`: not a query that could be answered at all.
pub fn answer(query: &[u8], resolve: impl Fn(&str) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *reply.opcode_mut() = query.opcode();
    let [question] = query.questions.as_slice() else {
        *reply.rcode_mut() = RCODE::FormatError;
        return reply.build_bytes_vec().ok();
    };
    reply.questions.push(question.clone());
    let is_internet = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    if query.opcode() != OPCODE::StandardQuery || !is_internet {
        *reply.rcode_mut() = RCODE::NotImplemented;
        return reply.build_bytes_vec().ok();
    }
    match resolve(&question.qname.to_string()) {
        None => *reply.rcode_mut() = RCODE::NameError,
        // The name exists; of any other type there is no data, so that nobody waits for an IPv6 address.
        Some(address) if matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) => {
            let data = RData::A(A { address: address.into() });
            reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_SECONDS, data));
        }
        Some(_) => {}
    }
    reply.build_bytes_vec().ok()
}

#[cfg(test)]
mod tests;
