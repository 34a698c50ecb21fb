//! What is found out about a port is known for a while, also when nobody is connected to it any more.

use std::time::Duration;

use sinew_spec::proxy::HopAddress;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::mesh::*;
use super::peer::*;

/// Speaks HTTP/2 alone, and ends each connection after one call. Says how many began in HTTP/1.1, and how many did not.
async fn hurried_application(seen: Shared<(usize, usize)>) -> std::net::SocketAddr {
    application(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            let mut first = [0; 3];
            stream.peek(&mut first).await.ok();
            if &first != b"PRI" {
                seen.borrow_mut().0 += 1;
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok();
                return;
            }
            seen.borrow_mut().1 += 1;
            let mut peer = Peer::server(stream);
            while let got = peer.next().await
                && got != Got::Closed
            {
                if let Got::Request(key, ..) = got {
                    peer.respond(key, 200, &[], true);
                    peer.engine.drain();
                    peer.engine.finish_drain();
                }
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn what_speaks_http2_alone_is_found_once() {
    in_patient_mesh(async {
        for is_plain in [false, true] {
            let seen = Shared::default();
            let address = hurried_application(seen.clone()).await;
            let plain = |config: &mut sinew_spec::proxy::ProxyConfig| {
                if is_plain {
                    config.destinations[0].endpoints[0].hop = HopAddress::Plain(address);
                }
            };
            let mesh = Pair::with(address, plain, |_| {}).await;
            for _ in 0..3 {
                let answer = mesh.web.call(GET).await;
                assert_eq!(status(&answer), 200, "plain {is_plain}: {answer}");
                // Long enough for all that is idle to be looked at.
                sleep(Duration::from_secs(5)).await;
            }
            assert_eq!(*seen.borrow(), (1, 3), "plain {is_plain}");
            // Whoever listens there later may be another.
            sleep(Duration::from_secs(70)).await;
            assert_eq!(status(&mesh.web.call(GET).await), 200);
            assert_eq!(*seen.borrow(), (2, 4), "plain {is_plain}");
        }
    })
    .await;
}
