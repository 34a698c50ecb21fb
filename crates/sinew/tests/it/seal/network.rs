//! What can be reached from a seal, and what happens to the rest.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use nix::sys::socket::{getsockopt, sockopt};
use sinew_spec::application::Transport;
use sinew_spec::seal::SealEgress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;

/// `connect.py KIND ADDRESS PORT`: sends "hello" and says what came back, or the error, and after how many ms.
const CONNECT: &str = r#"
import socket, sys, time
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
begun = time.monotonic()
try:
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((address, port))
        s.send(b"hello")
        print("answer", s.recv(100).decode())
except OSError as error:
    print("error", type(error).__name__, int((time.monotonic() - begun) * 1000))
"#;

fn egress(network: &str, prefix: u8, port: u16, transport: Transport) -> SealEgress {
    SealEgress { network: network.parse().expect("address"), prefix, port, transport }
}

async fn sealed(name: &str) -> Sealed {
    let mut spec = plain();
    spec.files.push(script("connect.py", CONNECT));
    spec.egress = vec![
        egress("10.1.2.0", 24, 5020, Transport::Tcp),
        egress("10.9.9.9", 32, 514, Transport::Udp),
        egress("2001:db8::", 32, 443, Transport::Tcp),
        egress("198.18.7.7", 32, 5683, Transport::Udp),
        egress("2001:db8::1", 128, 514, Transport::Udp),
    ];
    Sealed::new(name, &spec).await
}

impl Sealed {
    async fn connect(&self, kind: &str, address: &str, port: u16) -> String {
        self.output(&["python3", "/connect.py", kind, address, &port.to_string()]).await.trim().to_owned()
    }
}

/// A sidecar of one connection: answers with the original destination.
fn answer_one(listener: OwnedFd) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(false).expect("blocking");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).expect("hello");
        let destination: SocketAddr = if stream.local_addr().expect("address").is_ipv4() {
            let raw = getsockopt(&stream, sockopt::OriginalDst).expect("original destination");
            let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            (address, u16::from_be(raw.sin_port)).into()
        } else {
            let raw = getsockopt(&stream, sockopt::Ip6tOriginalDst).expect("original destination");
            (IpAddr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port)).into()
        };
        stream.write_all(destination.to_string().as_bytes()).expect("answer");
    })
}

fn answer_datagram(socket: OwnedFd) -> std::thread::JoinHandle<()> {
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(false).expect("blocking");
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).expect("datagram");
        let answer = [b"echo ", &buffer[..length]].concat();
        socket.send_to(&answer, from).expect("answer");
    })
}

#[test]
fn calls_arrive_at_the_sidecar_with_their_destination() {
    as_everyone("seal::network::calls_arrive_at_the_sidecar_with_their_destination", async |_| {
        let sealed = sealed("calls").await;
        let sockets = async || sealed.init().await.standing_sockets().await.expect("standing sockets");
        for (address, port) in
            [("198.18.0.5", 80), ("198.19.255.1", 8000), ("10.1.2.200", 5020), ("198.18.0.1", 53)]
        {
            let sidecar = answer_one(sockets().await.outbound_v4);
            assert_eq!(sealed.connect("tcp", address, port).await, format!("answer {address}:{port}"));
            sidecar.join().expect("sidecar");
        }
        let sidecar = answer_one(sockets().await.outbound_v6);
        assert_eq!(sealed.connect("tcp", "2001:db8::7", 443).await, "answer [2001:db8::7]:443");
        sidecar.join().expect("sidecar");

        let sidecar = answer_datagram(sockets().await.dns);
        assert_eq!(sealed.connect("udp", "198.18.0.1", 53).await, "answer echo hello");
        sidecar.join().expect("sidecar");
        let udp = [("10.9.9.9", 514), ("198.18.7.7", 5683), ("2001:db8::1", 514)];
        for (index, (address, port)) in udp.into_iter().enumerate() {
            let sidecar = answer_datagram(sockets().await.udp_egress.swap_remove(index));
            assert_eq!(sealed.connect("udp", address, port).await, "answer echo hello");
            sidecar.join().expect("sidecar");
        }
        sealed.shut_down().await;
    });
}

#[test]
fn everything_else_is_refused_at_once_and_told() {
    as_everyone("seal::network::everything_else_is_refused_at_once_and_told", async |_| {
        let sealed = sealed("refused").await;
        let log = sealed.init().await.standing_sockets().await.expect("sockets").refused;
        let mut told = 0;
        for (kind, address, port, reported) in [
            ("tcp", "10.0.0.7", 502, true),
            ("tcp", "10.1.2.200", 5021, true),
            ("tcp", "10.1.3.200", 5020, true),
            ("tcp", "8.8.8.8", 443, true),
            ("tcp", "2001:db9::1", 443, true),
            ("udp", "8.8.8.8", 53, true),
            ("udp", "10.9.9.9", 515, true),
            ("udp", "198.18.0.9", 123, true),
            ("udp", "2001:db8::1", 515, true),
            ("tcp", "169.254.169.254", 80, true),
            // Its own loopback, where nobody listens, and the sidecar's ports, called directly.
            ("tcp", "127.0.0.1", 9, false),
            ("tcp", "127.0.0.1", 64999, false),
            ("tcp", "::1", 64999, false),
            ("udp", "127.0.0.1", 64999, false),
            ("udp", "127.0.0.1", 64998, false),
        ] {
            let answer = sealed.connect(kind, address, port).await;
            println!("{kind} {address}:{port} {answer}");
            let (error, ms) = answer.rsplit_once(' ').expect("an error and its time");
            assert!(matches!(error, "error ConnectionRefusedError" | "error PermissionError"), "{answer}");
            assert!(ms.parse::<u32>().expect("ms") <= 50, "{kind} {address}:{port}: {answer}");
            let records = refusals(&log, address.parse().expect("address"), port);
            assert_eq!(records > 0, reported, "{kind} {address}:{port} was told {records} times");
            told += records;
        }
        assert_eq!(told, 10, "each attempt once");
        sealed.shut_down().await;
    });
}

/// How often the destination stands in what the log says now.
fn refusals(log: &OwnedFd, address: IpAddr, port: u16) -> usize {
    let address = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut count = 0;
    let mut buffer = [0; 8192];
    let number = std::os::fd::AsRawFd::as_raw_fd(log);
    while let Ok(length) = nix::sys::socket::recv(number, &mut buffer, nix::sys::socket::MsgFlags::empty()) {
        let text = &buffer[..length];
        let has = |wanted: &[u8]| text.windows(wanted.len()).any(|window| window == wanted);
        count += usize::from(has(&address) && has(&port.to_be_bytes()));
    }
    count
}

#[test]
fn the_application_has_all_ports_and_is_dialed_from_outside() {
    as_everyone("seal::network::the_application_has_all_ports_and_is_dialed_from_outside", async |_| {
        let sealed = sealed("dial").await;
        let init = sealed.init().await;
        let server = "import socket, threading
def serve(family, address, port):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port)); s.listen()
    print('listens', port, flush=True)
    while True:
        c, _ = s.accept(); c.sendall(('%s %d' % (address, port)).encode()); c.close()
for family, address, port in [(socket.AF_INET, '0.0.0.0', 8000), (socket.AF_INET6, '::', 8000), (socket.AF_INET, '0.0.0.0', 80)]:
    threading.Thread(target=serve, args=(family, address, port)).start()
";
        init.start(command(&["python3", "-c", server])).await.expect("start");
        let log = sealed.folder.join("log");
        crate::harness::until("three listeners", Duration::from_secs(10), || {
            (fs::read_to_string(&log).ok()?.matches("listens").count() == 3).then_some(())
        });
        for (address, expected) in
            [("127.0.0.1:8000", "0.0.0.0 8000"), ("[::1]:8000", ":: 8000"), ("127.0.0.1:80", "0.0.0.0 80")]
        {
            let address: SocketAddr = address.parse().expect("address");
            let socket = init.dial(2, address.is_ipv6()).await.expect("dial sockets").remove(0);
            let socket = TcpSocket::from_std_stream(socket.into());
            let mut stream = socket.connect(address).await.expect("connect");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("read");
            assert_eq!(text, expected);
            let _ = stream.shutdown().await;
        }
        sealed.shut_down().await;
    });
}
