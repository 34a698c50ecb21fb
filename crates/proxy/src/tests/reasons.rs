//! The table of `x-sinew-reason` in `docs/operations.md` says what the code does.

use std::collections::BTreeSet;

use sinew_telemetry::HTTP2_CODES;
use sinew_wire::h1::Reject;
use sinew_wire::h2::ErrorCode;

use crate::failure::{CONNECT_FAILED, Failure};

const ALL: [Failure; 21] = [
    Failure::HeadTimeout,
    Failure::BodyTimeout,
    Failure::ClientGone,
    Failure::MethodRefused,
    Failure::CallerRefused,
    Failure::UnknownDestination,
    Failure::NoEndpoint,
    Failure::Overload,
    Failure::Shed,
    Failure::ConnectFailed,
    Failure::ConnectTimeout,
    Failure::LoopbackOnly,
    Failure::Identity,
    Failure::UpstreamGone,
    Failure::UpstreamMalformed,
    Failure::UpstreamTimeout,
    Failure::Deadline,
    Failure::Unprocessed,
    Failure::NotHttp2,
    Failure::NotHttp1,
    Failure::NotTunnelled,
];

#[test]
fn the_page_names_every_reason() {
    let page = include_str!("../../../../docs/operations.md");
    let table = page.split("## What a proxy answers itself").nth(1).expect("the section");
    let rows: Vec<&str> =
        table.lines().skip_while(|line| !line.starts_with("| `x-sinew-reason`")).skip(2).collect();
    let rows: Vec<&str> = rows.into_iter().take_while(|line| line.starts_with("| `")).collect();
    let named: BTreeSet<&str> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    // Those of the code itself: one that is added is missed here.
    let code = include_str!("../failure.rs");
    let code =
        code.split("fn reason(self)").nth(1).and_then(|rest| rest.split("\n    }\n").next()).expect("it");
    let mut known: BTreeSet<&str> = code.split('"').skip(1).step_by(2).collect();
    known.insert(CONNECT_FAILED);
    assert_eq!(named, known);
    for failure in ALL {
        let status = match failure.status() {
            0 => "none".to_owned(),
            status => status.to_string(),
        };
        let row = format!("| `{}` | {status} | `{}` | ", failure.reason(), failure.label().as_str());
        assert!(rows.iter().any(|found| found.starts_with(&row)), "{row}");
    }
    let malformed = Failure::Rejected(Reject { status: 400, reason: "x" });
    let (reason, label) = (malformed.reason(), malformed.label().as_str());
    let is_it = |row: &&str| {
        row.starts_with(&format!("| `{reason}` | 400, ")) && row.contains(&format!("| `{label}` |"))
    };
    assert!(rows.iter().any(is_it), "{rows:?}");
}

/// Metrics know no engine, so they have names of their own.
#[test]
fn the_codes_of_metrics_are_those_of_the_engine() {
    for (code, name) in (0..).zip(HTTP2_CODES) {
        assert_eq!(ErrorCode(code).as_str(), name);
    }
    assert_eq!(ErrorCode(HTTP2_CODES.len() as u32).as_str(), "_other", "metrics have them all");
}
