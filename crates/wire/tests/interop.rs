//! The HTTP/2 engine against another implementation, both ways, over pipes in memory.

use std::future::poll_fn;

use bytes::Bytes;
use driver::{Fields, Request, echo, fetch};
use http::{HeaderMap, HeaderName, HeaderValue};
use sinew_wire::h1;
use sinew_wire::h2::Limits;
use sinew_wire::head::RequestHead;

#[path = "interop/driver.rs"]
mod driver;

const SIZES: [usize; 6] = [0, 1, 1000, 16_384, 100_000, 300_000];

/// Small, so that both ends run out of windows.
fn limits() -> Limits {
    Limits { stream_window_bytes: 20_000, connection_window_bytes: 70_000, ..Limits::DEFAULT }
}

fn body(i: usize) -> Vec<u8> {
    (0..SIZES[i % SIZES.len()]).map(|at| (at * 7 + i) as u8).collect()
}

fn trailers(i: usize) -> Fields {
    if i.is_multiple_of(2) { Vec::new() } else { vec![(b"x-sum".to_vec(), i.to_string().into_bytes())] }
}

fn header_map(fields: &Fields) -> HeaderMap {
    let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
        (HeaderName::from_bytes(name).expect("a name"), HeaderValue::from_bytes(value).expect("a value"))
    };
    fields.iter().map(pair).collect()
}

/// Sends a whole body as the windows allow.
async fn send_all(mut stream: h2::SendStream<Bytes>, mut rest: Bytes, trailers: &Fields) {
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.expect("open").expect("no error");
        let piece = rest.split_to(room.min(rest.len()));
        stream.send_data(piece, false).expect("open");
    }
    if trailers.is_empty() {
        stream.send_data(Bytes::new(), true).expect("open");
    } else {
        stream.send_trailers(header_map(trailers)).expect("open");
    }
}

async fn receive_all(stream: &mut h2::RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.expect("no error");
        stream.flow_control().release_capacity(piece.len()).expect("held");
        body.extend_from_slice(&piece);
    }
    (body, stream.trailers().await.expect("no error").unwrap_or_default())
}

/// Their client, our server.
#[tokio::test]
async fn server() {
    let (ours, theirs) = tokio::io::duplex(3000);
    let server = tokio::spawn(echo(ours, limits()));
    let (client, connection) = h2::client::handshake(theirs).await.expect("handshake");
    let connection = tokio::spawn(connection);
    let mut running = Vec::new();
    for i in 0..40 {
        let mut client = client.clone().ready().await.expect("ready");
        let request = http::Request::post(format!("http://a/{i}?q"))
            .header("x-one", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .expect("a request");
        let (response, stream) = client.send_request(request, false).expect("open");
        running.push(tokio::spawn(async move {
            let sending = tokio::spawn(async move { send_all(stream, body(i).into(), &trailers(i)).await });
            let response = response.await.expect("a response");
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["x-method"], "POST");
            assert_eq!(response.headers()["x-path"], format!("/{i}?q"));
            let (got, got_trailers) = receive_all(&mut response.into_body()).await;
            sending.await.expect("no panic");
            assert!(got == body(i), "request {i}: {} bytes", got.len());
            assert_eq!(got_trailers, header_map(&trailers(i)));
        }));
    }
    for task in running {
        task.await.expect("no panic");
    }
    drop(client);
    connection.await.expect("no panic").expect("no error");
    server.await.expect("no panic").expect("no error");
}

/// Our client, their server.
#[tokio::test]
async fn client() {
    let (ours, theirs) = tokio::io::duplex(3000);
    let server = tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(7).initial_window_size(20_000).header_table_size(300);
        let mut connection = builder.handshake::<_, Bytes>(theirs).await.expect("handshake");
        while let Some(accepted) = connection.accept().await {
            let (request, mut respond) = accepted.expect("no error");
            tokio::spawn(async move {
                let (head, mut stream) = request.into_parts();
                let (body, trailers) = receive_all(&mut stream).await;
                let response = http::Response::builder()
                    .status(201)
                    .header("x-path", head.uri.path())
                    .header("x-own", head.headers["x-own"].clone())
                    .header("server", "other")
                    .body(())
                    .expect("a response");
                let stream = respond.send_response(response, false).expect("open");
                let pairs = trailers.iter();
                let trailers =
                    pairs.map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())).collect();
                send_all(stream, body.into(), &trailers).await;
            });
        }
    });
    let requests: Vec<Request> = (0..40)
        .map(|i| {
            let own = "v".repeat(i * 10);
            let bytes = format!(
                "PUT /{i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Own: {own}\r\nUser-Agent: ours\r\n\r\n"
            )
            .into_bytes();
            let mut head = RequestHead::default();
            h1::parse_request(&bytes, &mut h1::HeadScan::default(), &h1::Limits::DEFAULT, &mut head)
                .expect("well-formed");
            Request { head, bytes, body: body(i), trailers: trailers(i) }
        })
        .collect();
    let responses = fetch(ours, limits(), &requests).await.expect("answered");
    for (i, response) in responses.iter().enumerate() {
        assert_eq!(response.status, 201);
        let fields = header_map(&response.fields);
        assert_eq!(fields["x-path"], format!("/{i}"));
        assert_eq!(fields["x-own"], "v".repeat(i * 10));
        assert!(response.body == body(i), "request {i}: {} bytes", response.body.len());
        assert_eq!(response.trailers, trailers(i));
    }
    server.await.expect("no panic");
}
