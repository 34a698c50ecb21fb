use super::{ApplicationName, ServiceName};

#[track_caller]
fn check(name: &str, expected: &str) {
    let result = ServiceName::parse(name).map(|name| name.to_string());
    assert_eq!(result.unwrap_or_else(|error| error.to_string()), expected);
}

#[test]
fn service_names_can_stand_in_a_url() {
    for name in ["orders", "a", "9", "cold-store_2"] {
        check(name, name);
    }
    check("", "a name cannot be empty");
    check("Orders", "`Orders` contains the upper-case letter `O`");
    check("orders.v2", "`orders.v2` contains '.'");
    check("a b", "`a b` contains ' '");
    check("_gateway", "`_gateway` does not begin with a letter or a digit");
    check("orders-", "`orders-` does not end with a letter or a digit");
    check("o\u{1b}[0m", "`o\u{fffd}[0m` contains '\\u{1b}'");
    check(&"a".repeat(64), "the name has 64 characters; it may have 63");
}

#[test]
fn application_names_follow_the_same_rule() {
    assert!(ApplicationName::parse("cold-store").is_ok());
    assert!(ApplicationName::parse("Cold").is_err());
}
