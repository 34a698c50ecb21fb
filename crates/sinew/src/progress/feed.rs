//! Where the news come from: the engine of this process, or that of another one.

use sinew_client::admin::{Client, Events};
use sinew_spec::admin::Event;
use sinew_spec::status::ApplicationStatus;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::failure::Failure;
use crate::operation::Handle;

/// Where the news come from.
pub enum Feed {
    /// The engine runs in this process.
    Here { engine: Handle, events: broadcast::Receiver<Event> },
    /// It runs in another one.
    There { client: Client, events: Box<Events> },
}

impl Feed {
    pub fn here(engine: Handle) -> Self {
        let events = engine.events();
        Self::Here { engine, events }
    }

    pub async fn there(client: Client) -> Result<Self, Failure> {
        let events = Box::new(client.events().await?);
        Ok(Self::There { client, events })
    }

    pub async fn status(&self) -> Result<ApplicationStatus, Failure> {
        Ok(match self {
            Self::Here { engine, .. } => engine.status(false).await?,
            Self::There { client, .. } => client.status(false).await?,
        })
    }

    /// `None`: the engine ended. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        match self {
            Self::Here { events, .. } => match events.recv().await {
                Ok(event) => Ok(Some(event)),
                Err(RecvError::Lagged(missed)) => Ok(Some(Event::Lagged { missed })),
                Err(RecvError::Closed) => Ok(None),
            },
            Self::There { events, .. } => Ok(events.next().await?),
        }
    }
}
