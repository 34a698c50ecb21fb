//! For a client that speaks HTTP/1.1, to an upstream that speaks HTTP/2 alone: one request, on the client's connection.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use sinew_wire::h1::{BodyDecoder, BodyEvent};
use sinew_wire::h2::ErrorCode;
use tokio::time::{Duration, Instant};

use super::end::End;
use super::exchange::{self, Departing, Exchange, Step, Ticket};
use super::single::{Single, tunnel_body};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::flow::{Flow, Plan};
use crate::http::Next;
use crate::snapshot::Snapshot;
use crate::timer::Timer;
use crate::worker::Worker;

/// How often an exchange looks at the time.
const TICK: Duration = Duration::from_secs(1);

/// A request, and how its body goes on.
pub struct Request {
    pub departing: Departing,
    pub plan: Plan,
    /// What an upstream that turned out not to speak HTTP/1.1 was sent of the body already.
    pub sent: Option<Sent>,
    /// Of what is still to come from the client.
    pub body: BodyDecoder,
}

/// A body as it was framed for an upstream.
pub struct Sent {
    pub bytes: Vec<u8>,
    pub body: BodyDecoder,
}

/// Carries one request from its head to the last byte of its answer.
pub async fn carry(
    flow: &Flow,
    snapshot: &Rc<Snapshot>,
    client: &mut Connection,
    request: Request,
    timer: &mut Timer<'_>,
    began: Instant,
) -> Next {
    let Request { departing, plan, sent, body } = request;
    let (target, metrics) = match flow.route(snapshot) {
        Ok(route) => route,
        Err(_) => return Next::Cut,
    };
    let single = Single::client(&departing.head, &departing.bytes);
    let end = End::Http1(single.clone());
    let mut exchange = Exchange::new(flow, end, target, metrics, snapshot.clone(), began);
    let is_bodiless = !departing.head.framing.has_body();
    let is_tunnel = departing.is_tunnel();
    exchange.take_request(departing, is_bodiless && !is_tunnel);
    let worker = &flow.worker;
    let ticket = worker.exchanges.insert(exchange);
    let _ends = Ends { worker, ticket };
    exchange::step(worker, ticket, |exchange| exchange.depart(worker, ticket, plan));
    let mut driver = Driver {
        flow,
        ticket,
        single: &single,
        client,
        sent,
        body,
        is_received: is_bodiless,
        is_acknowledged: false,
        has_ended: false,
        is_tunnel: false,
    };
    let mut look_at = Instant::now() + TICK;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(next) = driver.poll(cx) {
                return Poll::Ready(next);
            }
            if timer.poll(cx, look_at).is_pending() {
                return Poll::Pending;
            }
            look_at = Instant::now() + TICK;
            driver.step(|exchange| exchange.look(worker, Instant::now()));
        }
    })
    .await
}

/// The exchange is over when nobody drives the client's connection any more.
struct Ends<'a> {
    worker: &'a Rc<Worker>,
    ticket: Ticket,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        exchange::step(self.worker, self.ticket, |exchange| exchange.client_gone(ErrorCode::CANCEL));
    }
}

struct Driver<'a> {
    flow: &'a Flow,
    ticket: Ticket,
    single: &'a Rc<Single>,
    client: &'a mut Connection,
    sent: Option<Sent>,
    body: BodyDecoder,
    /// The whole request has come.
    is_received: bool,
    /// Its head, when its body was not there with it.
    is_acknowledged: bool,
    /// The client has ended its side; it may wait for its answer nevertheless.
    has_ended: bool,
    /// Bytes pass both ways as they are.
    is_tunnel: bool,
}

impl Driver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.single.state().begin_turn(cx);
        loop {
            {
                let mut state = self.single.state();
                let is_closing = self.flow.is_closing(self.flow.worker.current_phase());
                // What is left of a body that nobody wants is not worth the connection.
                state.closes = is_closing || !self.is_received;
            }
            self.enter_tunnel();
            let moved = self.read(cx) | self.write(cx);
            let mut state = self.single.state();
            if state.has_left() && (!state.is_ended() || state.is_refused()) {
                return Poll::Ready(Next::Cut);
            }
            if state.has_left() && state.is_written() {
                let goes_on = state.keeps_alive() && self.is_received;
                return Poll::Ready(if goes_on { Next::Continue(Instant::now()) } else { Next::Close });
            }
            if !moved {
                state.end_turn();
                return Poll::Pending;
            }
        }
    }

    /// When it is granted: from now on everything that comes is for the other side.
    fn enter_tunnel(&mut self) {
        if !self.is_tunnel && self.single.state().is_tunnel() {
            (self.is_tunnel, self.is_received) = (true, false);
            self.body = tunnel_body();
        }
    }

    /// True: the answer has moved.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let written = self.single.state().poll_write(cx, self.client);
        if self.single.state().is_refused() {
            return self.step(|exchange| exchange.client_gone(ErrorCode::CANCEL));
        }
        written == Poll::Ready(true) && self.step(|exchange| exchange.step_answer(Instant::now()))
    }

    /// True: something has come.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_received {
            return self.watch(cx);
        }
        if self.single.state().has_left() || !self.single.state().may_receive() {
            return false;
        }
        if self.receive() {
            return true;
        }
        match self.client.poll_fill(cx) {
            Poll::Pending => {
                if !std::mem::replace(&mut self.is_acknowledged, true) {
                    self.client.stream.acknowledge();
                }
                false
            }
            Poll::Ready(Ok(1..)) => true,
            Poll::Ready(Ok(0)) if self.is_tunnel => {
                self.is_received = true;
                self.has_ended = true;
                self.step(|exchange| exchange.request_came(&[], true, Instant::now()))
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                self.is_received = true;
                self.step(|exchange| exchange.client_gone(ErrorCode::CANCEL))
            }
        }
    }

    /// A client whose request is complete can leave, end its side, or send its next request, which waits in its buffer.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.has_ended && !self.client.input.is_full() {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0)) => self.has_ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => {
                    self.has_ended = true;
                    return self.step(|exchange| exchange.client_gone(ErrorCode::CANCEL));
                }
                Poll::Pending => break,
            }
        }
        false
    }

    /// Passes on what is here of the body. True: that was something.
    fn receive(&mut self) -> bool {
        let now = Instant::now();
        let (body, data) = match &mut self.sent {
            Some(sent) => (&mut sent.body, &sent.bytes[..]),
            None => (&mut self.body, self.client.input.data()),
        };
        let mut at = 0;
        let worker = &self.flow.worker;
        let came = match body.next(data, &mut at) {
            Ok(BodyEvent::NeedMore) => Ok(at > 0),
            Ok(BodyEvent::Data(range)) => {
                self.is_received = body.is_done();
                self.single.state().receive(range.len());
                let data = &data[range];
                exchange::step(worker, self.ticket, |exchange| {
                    exchange.request_came(data, self.is_received, now)
                });
                Ok(true)
            }
            Ok(BodyEvent::End) => {
                self.is_received = true;
                exchange::step(worker, self.ticket, |exchange| {
                    exchange.request_trailers_came(body.trailers(), now)
                });
                Ok(true)
            }
            Err(reject) => Err(reject),
        };
        match &mut self.sent {
            Some(sent) => {
                sent.bytes.drain(..at);
                if sent.bytes.is_empty() && !self.is_received {
                    self.sent = None;
                    return true;
                }
            }
            None => self.client.input.consume(at),
        }
        came.unwrap_or_else(|reject| self.step(|exchange| exchange.fail(Failure::Rejected(reject))))
    }

    fn step(&self, take: impl FnOnce(&mut Exchange) -> Step) -> bool {
        exchange::step(&self.flow.worker, self.ticket, take)
    }
}
