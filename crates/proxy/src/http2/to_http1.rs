//! To an upstream that speaks HTTP/1.1, for a request that came over HTTP/2: one connection for the time of the exchange,
//! driven by a task that ends with it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use sinew_wire::h1::{
    BodyDecoder, BodyEvent, Framing, Limits, Parsed, ResponseHead, ResponseKind, parse_response,
};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::exchange::{self, Chosen, Exchange, Step, Ticket};
use super::links::Links;
use super::single::{Single, tunnel_body};
use crate::connection::Connection;
use crate::detection::begins_with_settings;
use crate::failure::Failure;
use crate::worker::Worker;

/// Takes a connection, an idle one or a new one, and lives until the exchange is over.
pub async fn carry(worker: &Rc<Worker>, ticket: Ticket, chosen: Chosen) {
    let Chosen { links, target, load, snapshot, .. } = chosen;
    let is_harmless = worker.exchanges.with(ticket, |exchange| exchange.is_harmless()).unwrap_or(false);
    let mut upstream = match target.reach_http1(worker, &snapshot, load.as_ref(), is_harmless).await {
        Ok(upstream) => upstream,
        Err(failure) => {
            links.spoken.forget();
            exchange::not_reached(worker, ticket, failure, load.as_ref());
            return;
        }
    };
    let single = Single::upstream(upstream.is_reused);
    exchange::step(worker, ticket, |exchange| exchange.open_http1(worker, &single, load));
    let mut driver = Driver {
        worker,
        ticket,
        links: &links,
        single: &single,
        connection: &mut upstream.connection,
        limits: snapshot.limits.wire,
        body: None,
        is_shut: false,
        keep_alive: false,
        is_received: false,
        is_acknowledged: false,
    };
    let is_reusable = poll_fn(|cx| driver.poll(cx)).await;
    if is_reusable {
        upstream.put_back(Instant::now());
    }
}

struct Driver<'a> {
    worker: &'a Rc<Worker>,
    ticket: Ticket,
    links: &'a Links,
    single: &'a Rc<Single>,
    connection: &'a mut Connection,
    limits: Limits,
    /// Of the final answer.
    body: Option<BodyDecoder>,
    keep_alive: bool,
    /// A tunnel's end was passed on.
    is_shut: bool,
    /// The whole answer has come.
    is_received: bool,
    /// Its head, when its body was not there with it.
    is_acknowledged: bool,
}

impl Driver<'_> {
    /// Ready when the exchange is over; whether the connection may serve another.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.single.state().begin_turn(cx);
        loop {
            let moved = self.write(cx) | self.read(cx);
            let mut state = self.single.state();
            if state.has_left() {
                // One that was asked to become something else may believe that it has.
                let is_reusable =
                    self.is_received && self.keep_alive && state.is_sent() && !state.wire.upgrade;
                return Poll::Ready(is_reusable && self.connection.input.is_empty());
            }
            if !moved {
                state.end_turn();
                return Poll::Pending;
            }
        }
    }

    /// True: the request has moved.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let written = self.single.state().poll_write(cx, self.connection);
        let ends = written.is_ready() && self.single.state().is_tunnel() && self.single.state().is_sent();
        if ends && !self.is_shut {
            // An error here comes up again when it is read from.
            self.is_shut = Pin::new(&mut self.connection.stream).poll_shutdown(cx).is_ready();
        }
        written == Poll::Ready(true) && self.step(|exchange| exchange.step_request(Instant::now()))
    }

    /// True: something has come.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let may_receive = !self.is_received && self.single.state().may_receive();
        if !may_receive || self.single.state().has_left() {
            return false;
        }
        let moved = if self.body.is_none() { self.receive_head() } else { self.receive_body() };
        if moved {
            return true;
        }
        match self.connection.poll_fill(cx) {
            Poll::Pending => {
                if self.body.is_some() && !std::mem::replace(&mut self.is_acknowledged, true) {
                    self.connection.stream.acknowledge();
                }
                false
            }
            Poll::Ready(Ok(1..)) => {
                self.single.state().is_answered = true;
                true
            }
            Poll::Ready(Ok(0)) => {
                self.ended();
                true
            }
            // Never the end of a body, not even of one that ends with its connection: that would be cut unseen.
            Poll::Ready(Err(_)) => {
                self.is_received = true;
                self.gone();
                true
            }
        }
    }

    fn receive_head(&mut self) -> bool {
        let data = self.connection.input.data();
        let parsed = RESPONSE_HEAD.with_borrow_mut(|head| {
            let mut wire = self.single.state().wire;
            let parsed = parse_response(data, &mut self.connection.scan, &self.limits, &mut wire, head);
            self.single.state().wire = wire;
            match parsed {
                Ok(Parsed::Incomplete) => Ok(None),
                Ok(Parsed::Complete { head_bytes }) => {
                    let is_tunnel = head.kind == ResponseKind::Tunnel;
                    if is_tunnel && !self.single.state().is_accepted(head, data) {
                        return Err(());
                    }
                    if is_followed(head, data.len() - head_bytes) {
                        return Err(());
                    }
                    let ends = !is_tunnel && !head.framing.has_body();
                    if is_tunnel {
                        self.single.state().open_tunnel();
                        self.body = Some(tunnel_body());
                    } else if head.kind != ResponseKind::Interim {
                        self.body = Some(BodyDecoder::new(head.framing, &self.limits));
                        (self.keep_alive, self.is_received) = (head.keep_alive, ends);
                    }
                    exchange::step(self.worker, self.ticket, |exchange| {
                        exchange.answer_came(head, data, ends, Instant::now())
                    });
                    Ok(Some(head_bytes))
                }
                Err(_) => Err(()),
            }
        });
        match parsed {
            Ok(None) => false,
            Ok(Some(head_bytes)) => {
                self.connection.input.consume(head_bytes);
                true
            }
            Err(()) => {
                self.is_received = true;
                self.malformed();
                true
            }
        }
    }

    /// It is not HTTP/1.1; HTTP/2, perhaps.
    fn malformed(&mut self) {
        let is_http2 = begins_with_settings(self.connection.input.data());
        if is_http2 {
            self.links.spoken.found_http2_only();
        }
        self.step(|exchange| match is_http2 {
            true => exchange.upstream_speaks_another(Failure::NotHttp1),
            false => exchange.upstream_malformed(),
        });
    }

    fn receive_body(&mut self) -> bool {
        let Some(body) = &mut self.body else { return false };
        let data = self.connection.input.data();
        let now = Instant::now();
        let mut at = 0;
        let mut moved = false;
        let result = loop {
            match body.next(data, &mut at) {
                Ok(BodyEvent::NeedMore) => break Ok(()),
                Ok(BodyEvent::Data(range)) => {
                    moved = true;
                    self.single.state().receive(range.len());
                    self.is_received = body.is_done();
                    exchange::step(self.worker, self.ticket, |exchange| {
                        exchange.body_came(&data[range], self.is_received, now)
                    });
                    if self.is_received || !self.single.state().may_receive() {
                        break Ok(());
                    }
                }
                Ok(BodyEvent::End) => {
                    self.is_received = true;
                    exchange::step(self.worker, self.ticket, |exchange| {
                        exchange.trailers_came(body.trailers(), now)
                    });
                    break Ok(());
                }
                Err(_) => break Err(()),
            }
        };
        self.connection.input.consume(at);
        if result.is_err() {
            self.is_received = true;
            (self.keep_alive, moved) = (false, true);
            self.step(Exchange::upstream_malformed);
        }
        moved || self.is_received
    }

    /// The upstream has closed its side.
    fn ended(&mut self) {
        self.keep_alive = false;
        self.is_received = true;
        if self.body.as_mut().is_some_and(|body| body.eof().is_ok()) {
            self.step(|exchange| exchange.body_came(&[], true, Instant::now()));
        } else {
            self.gone();
        }
    }

    fn gone(&mut self) {
        self.keep_alive = false;
        let is_silent = !self.single.state().is_answered && !self.single.state().is_stale();
        if is_silent {
            // What is known of it may be wrong.
            self.links.spoken.forget();
        }
        self.step(Exchange::upstream_gone);
    }

    fn step(&self, take: impl FnOnce(&mut Exchange) -> Step) -> bool {
        exchange::step(self.worker, self.ticket, take)
    }
}

/// Bytes behind the answer, which no request asked for: whoever sends them may mean them for the next client.
fn is_followed(head: &ResponseHead, bytes: usize) -> bool {
    let length = match head.framing {
        Framing::None => 0,
        Framing::Length(length) => length,
        Framing::Chunked | Framing::UntilClose => return false,
    };
    head.kind == ResponseKind::Final && bytes as u64 > length
}

thread_local! {
    /// Parsed and passed on in one step: nobody else needs it meanwhile.
    static RESPONSE_HEAD: RefCell<ResponseHead> = RefCell::new(ResponseHead::default());
}
