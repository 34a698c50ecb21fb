//! `sinew port-forward`: a loopback port of the host that leads into a seal, for a debugger or psql.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use sinew_client::admin::Client;
use sinew_transport::seal::InitClient;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::Context;
use super::exec::running_instance;
use crate::failure::Failure;

/// Reach a port inside a seal from this host
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew port-forward db:5432                    127.0.0.1:5432 leads to port 5432 of db\n  \
    sinew port-forward db:5432 15432              the same on 127.0.0.1:15432\n  \
    sinew port-forward orders-2:9229 0            a free port is chosen and shown\n\n\
    Only this host can connect. Runs until Ctrl-C; a restarted instance is found again.")]
pub struct Arguments {
    /// A service or an instance, and the port it listens on
    #[arg(value_name = "SERVICE:PORT", value_parser = parse_target)]
    target: (String, u16),
    /// The port on 127.0.0.1; 0: a free one [default: the same as PORT]
    #[arg(value_name = "LOCAL")]
    local: Option<u16>,
}

/// At the same time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let (target, port) = &arguments.target;
    running_instance(&client.status(false).await?, target)?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.local.unwrap_or(*port)));
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        Failure::failed("listen", format!("could not listen on {wanted}: {error}"))
            .hint(format!("choose another port, or 0 for a free one: `sinew port-forward {target}:{port} 0`"))
    })?;
    let listen = listener.local_addr().unwrap_or(wanted);
    if context.terminal.is_json() {
        context
            .terminal
            .print_json_line(&serde_json::json!({ "listen": listen, "service": target, "port": port }))?;
    } else {
        context.terminal.print(&format!("{listen} -> {target}:{port} (Ctrl-C ends it)\n"))?;
    }
    let connections = LocalSet::new();
    let forward = forward(listener, Rc::new((client, target.clone(), *port)));
    tokio::select! {
        () = connections.run_until(forward) => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn forward(listener: TcpListener, target: Rc<(Client, String, u16)>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((mut outside, peer)) = listener.accept().await else { continue };
        let target = target.clone();
        tokio::task::spawn_local(async move {
            let _permit = permit;
            let (client, name, port) = &*target;
            match dial(client, name, *port).await {
                // An end of the stream by error is told to both sides by closing.
                Ok(mut inside) => drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await),
                Err(failure) => eprintln!("{peer}: {}", failure.message),
            }
        });
    }
}

/// Asked anew for each connection: instances come and go.
async fn dial(client: &Client, name: &str, port: u16) -> Result<TcpStream, Failure> {
    let instance = running_instance(&client.status(false).await?, name)?;
    let access = client.access(&instance).await?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed("connect", format!("could not connect to port {port} of `{instance}`: {error}"))
    };
    let Some(inside) = access.command.port(port) else {
        let declared = "without a seal only declared ports can be told from others; see `expose:`";
        return Err(failed(&declared));
    };
    let init = InitClient::connect(&access.init_socket).await.map_err(|error| failed(&error))?;
    let mut refused = None;
    for address in access.command.dialed() {
        let socket = init.dial(1, address.is_ipv6()).await.map_err(|error| failed(&error))?.pop();
        let Some(socket) = socket else { continue };
        match TcpSocket::from_std_stream(socket.into()).connect((address, inside).into()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(failed(
        &refused.map_or_else(|| "no socket could be made inside".to_owned(), |error| error.to_string()),
    ))
}

fn parse_target(text: &str) -> Result<(String, u16), String> {
    let (service, port) = text.rsplit_once(':').ok_or("write it like db:5432")?;
    if service.is_empty() {
        return Err("the service's name is missing; write it like db:5432".to_owned());
    }
    match port.parse() {
        Ok(port @ 1..) => Ok((service.to_owned(), port)),
        _ => Err(format!("`{port}` is not a port (1-65535)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_name_and_a_port() {
        assert_eq!(parse_target("db:5432"), Ok(("db".to_owned(), 5432)));
        for text in ["db", ":5432", "db:", "db:0", "db:65536", "db:http"] {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }
}
