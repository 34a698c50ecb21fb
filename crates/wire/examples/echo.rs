//! An echo over HTTP/2 without TLS, for clients of others: `cargo run -p sinew-wire --example echo`, then
//! `nghttp -v http://ADDRESS/` or `h2load -n 100000 -c 8 -m 32 http://ADDRESS/`.

use sinew_wire::h2::Limits;

#[path = "../tests/interop/driver.rs"]
#[allow(dead_code)]
mod driver;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            if let Err(reason) = driver::echo(stream, Limits::DEFAULT).await {
                eprintln!("{peer}: {reason}");
            }
        });
    }
}
