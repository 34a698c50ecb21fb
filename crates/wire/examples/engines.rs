//! What a request costs the engines.
//!
//! `engines` measures time; `engines count ENGINE MESSAGES` does so many and says nothing, for a tool that counts
//! instructions (`cargo xtask instructions`): the difference of two runs is what their difference costs.

#[path = "engines/work.rs"]
mod work;

use std::time::Instant;

use work::{H1, H2, Hpack};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure_all(),
        ["count", engine, requests] => count(engine, requests.parse().expect("a number")),
        _ => {
            eprintln!("engines [count ENGINE MESSAGES]");
            std::process::exit(2);
        }
    }
}

fn count(engine: &str, messages: u32) {
    let repeat = |work: &mut dyn FnMut(), each: u32| {
        // Tables are filled first.
        (0..10).for_each(|_| work());
        (0..messages / each).for_each(|_| work());
    };
    match engine {
        "h1" => {
            let mut h1 = H1::new();
            repeat(&mut || h1.request(), 1);
        }
        "h2-32" => {
            let mut h2 = H2::new(32);
            repeat(&mut || h2.round(), 32);
        }
        "h2-1" => {
            let mut h2 = H2::new(1);
            repeat(&mut || h2.round(), 1);
        }
        "hpack-encode" => {
            let mut hpack = Hpack::new();
            repeat(&mut || hpack.encode(), 1);
        }
        "hpack-decode" => {
            let mut hpack = Hpack::new();
            repeat(&mut || hpack.decode(), 1);
        }
        "huffman-decode" => {
            let mut hpack = Hpack::new();
            repeat(&mut || hpack.decode_literals(), 1);
        }
        _ => panic!("{engine} is no engine"),
    }
}

fn measure_all() {
    let mut hpack = Hpack::new();
    println!("HPACK, a typical request head ({} fields, {} bytes repeated):", hpack.fields(), hpack.block());
    measure("  encode", 1, || hpack.encode());
    measure("  decode", 1, || hpack.decode());
    measure("  encode, nothing repeats", 1, || hpack.encode_anew());
    measure("  decode, Huffman, nothing indexed", 1, || hpack.decode_literals());
    let mut h1 = H1::new();
    println!("request and response, both sides of a proxy:");
    measure("  HTTP/1.1", 1, || h1.request());
    for (connections, streams) in [(8, 32), (64, 1)] {
        let mut all: Vec<H2> = (0..connections).map(|_| H2::new(streams)).collect();
        let requests = connections * streams;
        measure(&format!("  HTTP/2, {connections} x {streams}"), requests, || {
            all.iter_mut().for_each(H2::round);
        });
    }
}

/// The best of several rounds: what else the machine does only adds.
fn measure(what: &str, each: usize, mut work: impl FnMut()) {
    const ROUNDS: usize = 30;
    let times = 20_000 / each;
    let best = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            (0..times).for_each(|_| work());
            begin.elapsed()
        })
        .min()
        .expect("some rounds");
    println!("{what:40} {:>6} ns", best.as_nanos() / (times * each) as u128);
}
