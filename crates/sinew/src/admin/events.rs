//! The stream of events as the body of an answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use sinew_spec::admin::Event;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

type NextEvent = Pin<Box<dyn Future<Output = (Option<Event>, broadcast::Receiver<Event>)> + Send>>;

/// Events as lines of JSON, each sent as soon as it happens.
pub struct EventBody {
    first: Option<Event>,
    next: Option<NextEvent>,
}

impl EventBody {
    pub fn new(first: Event, receiver: broadcast::Receiver<Event>) -> Self {
        Self { first: Some(first), next: Some(Box::pin(next_event(receiver))) }
    }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(line(&first)));
        }
        let Some(next) = self.next.as_mut() else { return Poll::Ready(None) };
        let (event, receiver) = ready!(next.as_mut().poll(cx));
        match event {
            Some(event) => {
                let last = matches!(event, Event::Down { .. });
                self.next = if last { None } else { Some(Box::pin(next_event(receiver))) };
                Poll::Ready(Some(line(&event)))
            }
            None => {
                self.next = None;
                Poll::Ready(None)
            }
        }
    }
}

/// `None` after the last one.
async fn next_event(mut receiver: broadcast::Receiver<Event>) -> (Option<Event>, broadcast::Receiver<Event>) {
    let event = match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(missed)) => Some(Event::Lagged { missed }),
        Err(RecvError::Closed) => None,
    };
    (event, receiver)
}

fn line(event: &Event) -> Result<Frame<Bytes>, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(Frame::data(Bytes::from(line)))
}
