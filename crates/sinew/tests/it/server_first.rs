//! Protocols in which the server speaks first, with two real servers: nothing is declared, the sidecars find out.

use crate::harness::{Sandbox, User, until};
use std::time::Duration;

const COMPOSE: &str = r#"
services:
  database:
    command:
      - sh
      - -c
      - |
        test -d /data/mysql || mariadb-install-db --no-defaults --datadir=/data --auth-root-authentication-method=normal --skip-test-db >/dev/null
        exec mariadbd --no-defaults --user=root --datadir=/data --socket=/tmp/db.sock --pid-file=/tmp/db.pid --port=8000 --init-file=$$PWD/init.sql
    volumes: ["data:/data"]
    expose: [8000]
    x-sinew: { health: { tcp: 8000 } }
  messages:
    command: [nats-server, -a, 0.0.0.0, -p, "8000"]
    expose: [8000]
    x-sinew: { health: { tcp: 8000 } }
  client:
    command: [python3, client.py]
    depends_on:
      database: { condition: service_healthy }
      messages: { condition: service_healthy }
volumes:
  data: {}
"#;

const INIT_SQL: &str = "create user if not exists 'app'@'%' identified by 'app';\n";

/// Subscribes, publishes to itself, prints what came back.
const CLIENT: &str = r#"
import signal, socket, sys
connection = socket.create_connection(("messages", 8000), timeout=10)
stream = connection.makefile("rb")
info = stream.readline()
assert info.startswith(b"INFO "), info
connection.sendall(b'CONNECT {"verbose":false}\r\nSUB line 1\r\nPUB line 5\r\nhello\r\n')
assert stream.readline().startswith(b"MSG line 1 5")
print("nats says", stream.readline().decode().strip(), flush=True)
signal.sigwait([signal.SIGTERM])
"#;

#[test]
fn mariadb_and_nats_behind_sidecars() {
    let sandbox = Sandbox::new(User::Own, "serverfirst");
    sandbox.write("compose.yaml", COMPOSE);
    sandbox.write("init.sql", INIT_SQL);
    sandbox.write("client.py", CLIENT);
    sandbox.sinew(&["up", "-d"]).ok();
    until("the client hears its own message", Duration::from_secs(10), || {
        let logs = sandbox.sinew(&["logs", "client"]).ok();
        logs.stdout.contains("nats says hello").then_some(())
    });
    let answer = sandbox
        .sinew(&[
            "exec",
            "client",
            "--",
            "mariadb",
            "--no-defaults",
            "-h",
            "database",
            "-P",
            "8000",
            "-u",
            "app",
            "-papp",
            "-N",
            "-e",
            "select 6*7",
        ])
        .ok();
    assert_eq!(answer.stdout.trim(), "42");
    sandbox.sinew(&["down", "-v"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
