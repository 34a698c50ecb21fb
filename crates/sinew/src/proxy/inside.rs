//! Sockets that belong to the seal's network, made by its init, kept in stock: a new connection to the application need
//! not wait for the init's answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use sinew_proxy::Inside;
use sinew_transport::seal::{InitClient, InitError};
use tokio::net::TcpSocket;
use tokio::sync::Mutex;

/// Asked for at once. Applications listen on one family; the other one is tried once.
const BATCH_V4: usize = 16;
const BATCH_V6: usize = 4;
/// With fewer than this more are asked for, beside the connection that is being made.
const LOW: usize = 2;

pub struct Stock(Rc<Shared>);

struct Shared {
    init: PathBuf,
    /// Held while the init is asked, so that connections that wait together ask once.
    client: Mutex<Option<InitClient>>,
    v4: RefCell<Vec<OwnedFd>>,
    v6: RefCell<Vec<OwnedFd>>,
}

impl Stock {
    pub fn new(init: PathBuf, client: InitClient) -> Self {
        Self::with(init, Some(client))
    }

    /// Connects when it is asked for the first time.
    fn connecting(init: PathBuf) -> Self {
        Self::with(init, None)
    }

    fn with(init: PathBuf, client: Option<InitClient>) -> Self {
        Self(Rc::new(Shared {
            init,
            client: Mutex::new(client),
            v4: RefCell::default(),
            v6: RefCell::default(),
        }))
    }
}

impl Inside for Stock {
    fn for_another(&self) -> Box<dyn FnOnce() -> Box<dyn Inside> + Send> {
        let init = self.0.init.clone();
        Box::new(|| Box::new(Self::connecting(init)))
    }

    fn socket(&self, ipv6: bool) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + '_>> {
        Box::pin(async move {
            let socket = self.0.take(ipv6).await?;
            if self.0.stock(ipv6).borrow().len() < LOW {
                let shared = self.0.clone();
                // When it fails, whoever finds the stock empty asks again and is told why.
                tokio::task::spawn_local(async move { shared.fill(ipv6, LOW).await });
            }
            Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
        })
    }

    fn is_sealed(&self) -> bool {
        true
    }

    fn is_on_loopback_only(&self, port: u16) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async move { self.0.is_on_loopback_only(port).await.unwrap_or(false) })
    }
}

/// Without a seal: where the application listens on the host's loopback, by declared port. Other ports are never dialed:
/// they are somebody else's.
pub struct Declared(pub BTreeMap<u16, u16>);

impl Inside for Declared {
    fn for_another(&self) -> Box<dyn FnOnce() -> Box<dyn Inside> + Send> {
        let ports = self.0.clone();
        Box::new(|| Box::new(Self(ports)))
    }

    fn socket(&self, ipv6: bool) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + '_>> {
        Box::pin(async move { if ipv6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() } })
    }

    fn port(&self, declared: u16) -> Option<u16> {
        self.0.get(&declared).copied()
    }
}

impl Shared {
    fn stock(&self, ipv6: bool) -> &RefCell<Vec<OwnedFd>> {
        if ipv6 { &self.v6 } else { &self.v4 }
    }

    async fn take(&self, ipv6: bool) -> io::Result<OwnedFd> {
        loop {
            if let Some(socket) = self.stock(ipv6).borrow_mut().pop() {
                return Ok(socket);
            }
            self.fill(ipv6, 1).await?;
        }
    }

    /// Asks the init for more, unless there are `enough`.
    async fn fill(&self, ipv6: bool, enough: usize) -> io::Result<()> {
        let mut client = self.client.lock().await;
        if self.stock(ipv6).borrow().len() >= enough {
            return Ok(());
        }
        let count = if ipv6 { BATCH_V6 } else { BATCH_V4 };
        let sockets = self.ask(&mut client, async |init| init.dial(count, ipv6).await).await?;
        if sockets.is_empty() {
            return Err(io::Error::other("the seal's init gave no sockets"));
        }
        self.stock(ipv6).borrow_mut().extend(sockets);
        Ok(())
    }

    async fn is_on_loopback_only(&self, port: u16) -> io::Result<bool> {
        let mut client = self.client.lock().await;
        self.ask(&mut client, async |init| init.is_on_loopback_only(port).await).await
    }

    async fn ask<T>(
        &self,
        client: &mut Option<InitClient>,
        question: impl AsyncFnOnce(&InitClient) -> Result<T, InitError>,
    ) -> io::Result<T> {
        let connected = match client.take() {
            Some(connected) => connected,
            None => InitClient::connect(&self.init).await.map_err(io::Error::other)?,
        };
        let answer = question(&connected).await;
        // A refusal leaves the connection as it was; after anything else it is made anew.
        if matches!(answer, Ok(_) | Err(InitError::Refused(_))) {
            *client = Some(connected);
        }
        answer.map_err(io::Error::other)
    }
}
