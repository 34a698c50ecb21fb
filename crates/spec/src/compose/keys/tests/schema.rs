//! The keys of the published schema, as paths: `*` stands for a name, `[]` for an item of a list.
//!
//! `schema.txt` is derived. To renew it take `schema/compose-spec.json` of a newer commit of compose-spec/compose-spec,
//! run `COMPOSE_SCHEMA=…/compose-spec.json SINEW_UPDATE_DOCS=1 cargo test -p sinew-spec keys`, and write the commit into
//! its first line. Without `SINEW_UPDATE_DOCS` the two are compared.

use std::collections::BTreeSet;

use serde_json::Value;

pub(super) const SCHEMA: &str = include_str!("schema.txt");

#[test]
fn the_list_of_keys_is_that_of_the_schema() {
    let example = serde_json::json!({
        "properties": {"services": {"$ref": "#/definitions/services"}, "name": {"type": "string"}},
        "patternProperties": {"^x-": {}},
        "definitions": {
            "services": {"patternProperties": {"^[a-z]+$": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/service"}]}}},
            "service": {"properties": {"ports": {"items": {"properties": {"target": {}}}}, "self": {"$ref": "#/definitions/service"}}},
        },
    });
    assert_eq!(
        list(&example),
        ["name", "services", "services.*.ports", "services.*.ports[].target", "services.*.self"]
    );

    let Some(path) = std::env::var_os("COMPOSE_SCHEMA") else { return };
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let head: String =
        SCHEMA.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let now = head + &list(&schema).join("\n") + "\n";
    if super::updating() {
        std::fs::write(super::folder().join("src/compose/keys/tests/schema.txt"), now).unwrap();
    } else {
        assert!(now == SCHEMA, "schema.txt is of another schema");
    }
}

/// Every key of a schema, sorted. What refers to itself is followed once.
fn list(schema: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    walk(schema, schema, "", &mut Vec::new(), &mut found);
    found.into_iter().collect()
}

fn walk<'a>(
    node: &'a Value,
    root: &'a Value,
    path: &str,
    followed: &mut Vec<&'a str>,
    found: &mut BTreeSet<String>,
) {
    if !node.is_object() {
        return;
    }
    if let Some(name) = node["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/definitions/"))
        && !followed.contains(&name)
    {
        followed.push(name);
        walk(&root["definitions"][name], root, path, followed, found);
        followed.pop();
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        for choice in node[kind].as_array().into_iter().flatten() {
            walk(choice, root, path, followed, found);
        }
    }
    for (key, value) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        walk(value, root, &path, followed, found);
        found.insert(path);
    }
    let named = node["patternProperties"].as_object().into_iter().flatten();
    let named = named.filter(|(pattern, _)| *pattern != "^x-").map(|(_, value)| value);
    for value in named.chain([&node["additionalProperties"]]) {
        walk(value, root, &format!("{path}.*"), followed, found);
    }
    walk(&node["items"], root, &format!("{path}[]"), followed, found);
}
