//! Writes JSON values as YAML that people read and every YAML 1.2 parser understands the same way.

use serde_json::Value;

pub fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) => block(value, 0, &mut out),
        scalar => out.push_str(&format!("{}\n", inline(scalar))),
    }
    out
}

/// Lines at the given depth. `value` is an object or an array.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                out.push_str(&format!("{indent}{}:", text(key)));
                nested(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                if is_flat(item) {
                    out.push_str(&format!("{indent}- {}\n", inline(item)));
                    continue;
                }
                // The first key stands behind the dash.
                let mut inner = String::new();
                block(item, depth + 1, &mut inner);
                out.push_str(&format!("{indent}- {}", &inner[indent.len() + 2..]));
            }
        }
        other => out.push_str(&format!("{indent}{}\n", inline(other))),
    }
}

/// What follows a key's colon.
fn nested(value: &Value, depth: usize, out: &mut String) {
    if is_flat(value) {
        out.push_str(&format!(" {}\n", inline(value)));
    } else {
        out.push('\n');
        block(value, depth + 1, out);
    }
}

/// Scalars, empty collections and short lists of scalars stand on one line.
fn is_flat(value: &Value) -> bool {
    match value {
        Value::Object(entries) => entries.is_empty(),
        Value::Array(items) => {
            let scalars = items.iter().all(|item| !matches!(item, Value::Object(_) | Value::Array(_)));
            items.is_empty() || (scalars && inline(value).len() <= 80)
        }
        _ => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Plain where no parser can take it for anything but this text; else quoted like JSON, which YAML 1.2 contains.
fn text(string: &str) -> String {
    let begins_as_word = string.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'));
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '=' | '+' | '@');
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let taken = words.contains(&string.to_ascii_lowercase().as_str());
    if begins_as_word && !taken && string.chars().all(harmless) {
        return string.to_owned();
    }
    Value::String(string.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_like_a_compose_file() {
        let value = json!({
            "name": "shop",
            "empty": {},
            "services": { "orders": {
                "command": ["python3", "-m", "http.server", "8000"],
                "mounts": [{ "source": "/srv/a b", "target": "/data" }, { "source": "x", "list": [] }],
                "replicas": 3,
                "user": null,
            } },
        });
        let expected = "\
empty: {}
name: shop
services:
  orders:
    command: [python3, \"-m\", http.server, \"8000\"]
    mounts:
      - source: \"/srv/a b\"
        target: /data
      - list: []
        source: x
    replicas: 3
    user: null
";
        assert_eq!(render(&value), expected);
    }

    #[test]
    fn texts_stay_texts() {
        for quoted in [
            "",
            "no",
            "TRUE",
            "12",
            "1e3",
            "0x1f",
            "~",
            "a: b",
            "# x",
            "- x",
            "line\nbreak",
            "a #b",
            "*x",
            "2024-01-01",
        ] {
            assert!(text(quoted).starts_with('"'), "{quoted}");
        }
        for plain in ["orders", "/usr/bin/env", "KEY=value", "a-b.c"] {
            assert_eq!(text(plain), plain);
        }
    }
}
