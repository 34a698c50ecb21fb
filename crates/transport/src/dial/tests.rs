use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn families_take_turns() {
    let check = |given: &[&str], expected: &[&str]| {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(in_turn(&parse(given)), parse(expected), "{given:?}");
    };
    let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
    let (x, y) = ("[2001:db8::1]:1", "[2001:db8::2]:1");
    check(&[], &[]);
    check(&[a], &[a]);
    check(&[x, y, a, b], &[x, a, y, b]);
    check(&[a, b, c, x], &[a, x, b, c]);
    check(&[x, a, b, c], &[x, a, b, c]);
}

/// Nobody listens there; it was free a moment ago.
async fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Swallows what comes: nobody accepts, and its queue is full with what is given as well.
async fn silent() -> (SocketAddr, TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = TcpStream::connect(address).await.unwrap();
    (address, listener, queued)
}

#[tokio::test]
async fn the_first_that_accepts_is_taken() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good_address = good.local_addr().unwrap();
    let (silent, _listener, _queued) = silent().await;
    for addresses in [
        vec![good_address],
        vec![good_address, refused().await],
        vec![refused().await, refused().await, good_address],
        vec![silent, good_address],
        vec![silent, refused().await, silent, good_address],
    ] {
        let stream = timeout(PATIENCE, connect_any(&addresses)).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good_address, "{addresses:?}");
    }
}

#[tokio::test]
async fn when_nobody_accepts_it_says_why() {
    let addresses = [refused().await, refused().await];
    let failed = timeout(PATIENCE, connect_any(&addresses)).await.unwrap().unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(connect_any(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn names_and_addresses_are_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        // `localhost` may have an address of either family: where nobody listens, the other is taken.
        let stream = timeout(PATIENCE, connect(host, port)).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
    }
}
