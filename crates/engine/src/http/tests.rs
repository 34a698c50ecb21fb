use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::*;

/// What a server that answers `answer` to anything is understood to have said.
fn ask(answer: &'static [u8]) -> Result<String, EngineError> {
    let folder = std::env::temp_dir().join(format!("sinew-engine-{}-{:p}", std::process::id(), answer));
    std::fs::create_dir_all(&folder).expect("a folder for tests");
    let socket = folder.join("s");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(answer);
        String::from_utf8_lossy(&head).into_owned()
    });
    let answered = Engine::at(&socket).send(Request::new("GET", "/x", "asking")).and_then(|response| {
        let mut text = String::new();
        response
            .body()
            .read_to_string(&mut text)
            .map(|_| text)
            .map_err(|source| EngineError::Io { attempted: "reading".to_owned(), source })
    });
    let head = server.join().expect("it answered");
    assert!(head.starts_with("GET /x HTTP/1.1\r\nHost: engine\r\n"), "{head}");
    std::fs::remove_dir_all(&folder).expect("it is there");
    answered
}

fn check(answer: &'static [u8], expected: &str) {
    let said = ask(answer).unwrap_or_else(|error| format!("error: {error}"));
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(answer));
}

#[test]
fn bodies_end_where_they_should() {
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc");
    check(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        "abcde",
    );
    check(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end");
    check(b"HTTP/1.1 204 No Content\r\n\r\n", "");
}

#[test]
fn what_is_cut_or_wrong_is_an_error() {
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc", "error: reading: the answer was cut off");
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "error: reading: a chunk of \"zz\"",
    );
    check(b"", "error: asking: it hung up without an answer");
    check(b"SSH-2.0\r\n", "error: asking: no HTTP: \"SSH-2.0\"");
    check(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "error: asking: a length of \"many\"");
}

#[test]
fn a_refusal_carries_the_engines_words() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{\"message\":\"no such image\"}";
    check(&answer[..], "error: asking: status 404");
    check(
        b"HTTP/1.1 409 Conflict\r\n\r\n{\"message\":\"the name is in use\"}",
        "error: asking: the name is in use",
    );
    assert!(
        ask(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err_and(|error| error.is_not_found())
    );
}

#[test]
fn what_is_not_plain_is_quoted() {
    assert_eq!(quoted("a/b:1@x"), "a/b:1@x");
    assert_eq!(quoted("{\"a\": 1}&b=2"), "%7B%22a%22:%201%7D%26b%3D2");
}
