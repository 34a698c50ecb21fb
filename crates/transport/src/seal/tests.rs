use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, accept4, socketpair};
use sinew_spec::seal::StandingSockets as StandingCounts;

use super::*;
use crate::descriptors::{listen_at, receive, send};

/// A scripted init: answers each request with what comes next.
fn script(
    path: PathBuf,
    script: Vec<(Vec<InitMessage>, usize)>,
) -> std::thread::JoinHandle<Vec<InitRequest>> {
    let listener = listen_at(&path).expect("listen");
    std::thread::spawn(move || {
        set_blocking(&listener);
        let raw =
            accept4(std::os::fd::AsRawFd::as_raw_fd(&listener), SockFlag::SOCK_CLOEXEC).expect("accept");
        // Who was accepted needs its name no more.
        std::fs::remove_dir_all(path.parent().expect("a folder of its own")).expect("it is ours");
        let socket = owned(raw);
        let mut requests = Vec::new();
        for (answers, descriptors) in script {
            let mut buffer = vec![0; MESSAGE_BYTES_MAX];
            let (length, _) = receive(socket.as_fd(), &mut buffer).expect("receive");
            if length == 0 {
                break;
            }
            requests.push(serde_json::from_slice(&buffer[..length]).expect("request"));
            for answer in answers {
                let bytes = serde_json::to_vec(&answer).expect("answer");
                send(socket.as_fd(), &bytes, &vec![socket.as_fd(); descriptors]).expect("send");
            }
        }
        requests
    })
}

fn set_blocking(socket: &OwnedFd) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(socket, FcntlArg::F_SETFL(OFlag::empty())).expect("fcntl");
}

/// `accept4` hands out a number; the way to an owner without `unsafe` is through /proc.
fn owned(raw: i32) -> OwnedFd {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .expect("socketpair");
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    let rights = [raw];
    let parts = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(ours.as_raw_fd(), &[io::IoSlice::new(b"x")], &parts, MsgFlags::empty(), None)
        .expect("sendmsg");
    nix::unistd::close(raw).expect("close");
    receive(theirs.as_fd(), &mut [0; 1]).expect("receive").1.remove(0)
}

fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sinew-seal-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let path = folder.join("init.sock");
    let _ = std::fs::remove_file(&path);
    path
}

#[tokio::test(flavor = "current_thread")]
async fn replies_and_events_are_told_apart() {
    let path = path("events");
    let running = ServiceState::Running { pid: 3, started_unix_ms: 5 };
    let init = script(
        path.clone(),
        vec![
            (
                vec![
                    InitMessage::Event(InitEvent::Service { state: ServiceState::Empty }),
                    InitMessage::Reply(InitReply::Done),
                ],
                0,
            ),
            (vec![InitMessage::Reply(InitReply::Failed { reason: "no".to_owned() })], 0),
            (
                vec![
                    InitMessage::Reply(InitReply::Done),
                    InitMessage::Event(InitEvent::Service { state: running.clone() }),
                ],
                0,
            ),
        ],
    );
    let client = InitClient::connect(&path).await.expect("connect");
    client.tell(&InitRequest::KillAll).await.expect("done");
    let refused = client.tell(&InitRequest::KillAll).await.expect_err("refused");
    assert_eq!(refused.to_string(), "the seal's init refused: no");
    let mut events = client.watch().await.expect("watch");
    assert_eq!(events.next().await.expect("event"), Some(InitEvent::Service { state: running }));
    assert_eq!(events.next().await.expect("end"), None);
    assert_eq!(init.join().expect("script").len(), 3);
}

#[tokio::test(flavor = "current_thread")]
async fn standing_sockets_in_their_order() {
    let path = path("standing");
    let counts = StandingCounts { udp_egress: 2 };
    let init =
        script(path.clone(), vec![(vec![InitMessage::Reply(InitReply::Standing { sockets: counts })], 7)]);
    let client = InitClient::connect(&path).await.expect("connect");
    assert_eq!(client.standing_sockets().await.expect("sockets").udp_egress.len(), 2);
    init.join().expect("script");
}

#[tokio::test(flavor = "current_thread")]
async fn an_abandoned_request_does_not_shift_the_answers() {
    let path = path("abandoned");
    let listener = listen_at(&path).expect("listen");
    let client = InitClient::connect(&path).await.expect("connect");
    std::fs::remove_dir_all(path.parent().expect("a folder of its own")).expect("it is ours");
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let (abandon, was_abandoned) = std::sync::mpsc::channel();
    let answering = std::thread::spawn(move || {
        set_blocking(&listener);
        let raw =
            accept4(std::os::fd::AsRawFd::as_raw_fd(&listener), SockFlag::SOCK_CLOEXEC).expect("accept");
        let socket = owned(raw);
        let answer = |pid| {
            let reply = InitMessage::Reply(InitReply::Started { pid });
            send(socket.as_fd(), &serde_json::to_vec(&reply).expect("json"), &[]).expect("send");
        };
        receive(socket.as_fd(), &mut vec![0; MESSAGE_BYTES_MAX]).expect("receive");
        asked.send(()).expect("asker");
        was_abandoned.recv().expect("abandoned");
        answer(1);
        receive(socket.as_fd(), &mut vec![0; MESSAGE_BYTES_MAX]).expect("receive");
        answer(2);
    });
    tokio::select! {
        _ = client.request(&InitRequest::Status, &[]) => panic!("nobody answered yet"),
        asked = was_asked => asked.expect("asked"),
    }
    abandon.send(()).expect("thread");
    let (reply, _) = client.request(&InitRequest::KillAll, &[]).await.expect("answer");
    assert_eq!(reply, InitReply::Started { pid: 2 });
    answering.join().expect("thread");
}

#[tokio::test(flavor = "current_thread")]
async fn a_missing_init_is_named() {
    let error = InitClient::connect(&PathBuf::from("/nonexistent/init.sock")).await.expect_err("missing");
    assert!(error.to_string().contains("/nonexistent/init.sock"), "{error}");
}
