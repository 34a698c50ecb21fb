//! The binary: wires the roles. One file per subcommand.

#[expect(dead_code, reason = "the engine and the admin API meet here")]
mod operation;

fn main() {}
