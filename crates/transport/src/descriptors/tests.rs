use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use sinew_spec::seal::DESCRIPTORS_MAX;

use super::*;

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("socketpair")
}

#[test]
fn a_descriptor_arrives_as_the_same_open_file() {
    let (ours, theirs) = pair();
    let (reader, writer) = io::pipe().expect("pipe");
    send(ours.as_fd(), b"take this", &[writer.as_fd()]).expect("send");
    drop(writer);
    let mut buffer = [0; 64];
    let (length, mut descriptors) = receive(theirs.as_fd(), &mut buffer).expect("receive");
    assert_eq!(&buffer[..length], b"take this");
    File::from(descriptors.remove(0)).write_all(b"hello").expect("write");
    let mut text = String::new();
    File::from(OwnedFd::from(reader)).read_to_string(&mut text).expect("read to the end");
    assert_eq!(text, "hello");
}

#[test]
fn as_many_descriptors_as_allowed() {
    let (ours, theirs) = pair();
    let many = vec![ours.as_fd(); DESCRIPTORS_MAX];
    send(ours.as_fd(), b"x", &many).expect("send");
    let (_, descriptors) = receive(theirs.as_fd(), &mut [0; 8]).expect("receive");
    assert_eq!(descriptors.len(), DESCRIPTORS_MAX);
}

#[test]
fn what_is_too_large_is_an_error() {
    let (ours, theirs) = pair();
    send(ours.as_fd(), &[7; 100], &[]).expect("send");
    let error = receive(theirs.as_fd(), &mut [0; 10]).expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn the_end_is_an_empty_message() {
    let (ours, theirs) = pair();
    drop(ours);
    let (length, descriptors) = receive(theirs.as_fd(), &mut [0; 10]).expect("receive");
    assert_eq!((length, descriptors.len()), (0, 0));
}
