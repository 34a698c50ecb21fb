use sinew_spec::proxy::ProxyConfig;

use super::*;

const GOOD: &str = "
revision: 1
trust_domain: shop.sinew
namespace: shop
service: orders
instance: orders-1
inbound:
  protocols: {8000: http}
  callers: [web]
  draining: false
destinations:
  - service: stock
    address: 198.18.0.7
    protocols: {}
    endpoints:
      - instance: stock-1
        hop: {unix: /run/stock-1/hop.sock}
      - instance: 'stock-2'
        hop:
          tcp: 127.0.0.1:15008
egress: []
published: []
limits:
  detect_ms: 20
";

fn usable(config: &ProxyConfig) -> Result<(), String> {
    sinew_proxy::check(config)
}

#[test]
fn yaml_and_json_say_the_same() {
    let config: ProxyConfig = read(GOOD, usable).unwrap();
    assert_eq!(config.limits.detect_ms, 20);
    assert_eq!(config.destinations[0].endpoints.len(), 2);
    let json = serde_json::to_string_pretty(&config).unwrap();
    assert_eq!(read::<ProxyConfig>(&json, usable).unwrap(), config);
}

/// Replaces the first `from` of the good file, and expects that it is refused so.
#[track_caller]
fn check(from: &str, to: &str, expect: &str) {
    assert!(GOOD.contains(from));
    let problem = read::<ProxyConfig>(&GOOD.replacen(from, to, 1), usable).unwrap_err();
    assert_eq!(problem.to_string(), expect);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    check("revision: 1", "revision: one", "2:11: invalid type: string \"one\", expected u64");
    check(
        "detect_ms: 20",
        "header_timeout_ms: 0",
        "24:3: limits.header_timeout_ms is 0, which would let nothing through",
    );
    check("detect_ms: 20", "memory_bytes_max: 1", "24:3: limits.memory_bytes_max is 1, less than 16777216");
    check("198.18.0.7", "198.18.0", "13:14: invalid IPv4 address syntax");
    check("detect_ms", "detekt_ms", "24:3: unknown key limits.detekt_ms");
    check("    protocols: {}", "    protocol: {}", "12:5: missing field `protocols`");
    check("tcp:", "sctp:", "20:11: unknown variant `sctp`, expected one of `unix`, `tcp`, `plain`");
    check("[web]", "[web", "10:11: illegal placement of ':' indicator");
    check("service: orders", "service: orders\nservice: x", "6:1: the key service occurs twice");
    check("service: orders", "service: *x", "5:10: while parsing node, found unknown anchor");
    check("service: orders", "{}: x", "5:1: a key must be a word");
}

#[test]
fn text_of_any_kind_ends_in_an_answer() {
    for text in
        ["", "---", "- - - -", "a", "[[[", "{", "\0", "a: b: c", "--- a\n--- b", "? [a]\n: b", "&a [*a]"]
    {
        assert!(read::<ProxyConfig>(text, usable).is_err(), "{text:?}");
    }
    let deep = "[".repeat(100);
    assert!(read::<ProxyConfig>(&deep, usable).unwrap_err().what.contains("nested too deeply"));
}
