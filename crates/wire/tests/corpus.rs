//! What fuzzing kept, replayed in ordinary tests.

use std::path::Path;

#[path = "../../../fuzz/src/properties.rs"]
mod properties;

#[path = "../../../fuzz/src/h2.rs"]
mod h2;

#[path = "../../../fuzz/src/versions.rs"]
mod versions;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the project") {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        let input = std::fs::read(&path).expect("readable");
        // Every place to cut at that one byte can say.
        for cut in (0..=255u8).take(input.len()) {
            property(&[&[cut], &input[1..]].concat());
        }
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}

#[test]
fn requests() {
    replay("request", properties::request);
}

#[test]
fn responses() {
    replay("response", properties::response);
}

#[test]
fn chunked_bodies() {
    replay("chunked", properties::chunked);
}

#[test]
fn http2_clients() {
    replay("h2_server", h2::server);
}

#[test]
fn http2_servers() {
    replay("h2_client", h2::client);
}

#[test]
fn field_blocks() {
    replay("hpack", h2::hpack);
}

#[test]
fn messages_between_versions() {
    replay("versions", versions::differential);
}

#[test]
fn handshakes_of_websocket() {
    replay("websocket", versions::handshake);
}

#[test]
fn headers_of_the_proxy_protocol() {
    replay("proxy_protocol", properties::proxy_protocol);
}
