//! Commands in a running container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use crate::http::{ANSWER, Request, Upgraded, quoted};
use crate::{Engine, EngineError};

/// A command to be run, with the container's own environment and user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    pub command: Vec<String>,
    /// Over the container's.
    pub environment: BTreeMap<String, String>,
    /// `None`: the container's.
    pub working_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub tty: bool,
    pub stdin: bool,
}

/// What a command is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Exec {
    pub running: bool,
    /// As seen from the host. 0: none.
    #[serde(default)]
    pub pid: i32,
    #[serde(default)]
    pub exit_code: Option<i32>,
}

impl Engine {
    /// The id of the command, which does not run yet.
    pub fn exec_create(&self, container: &str, start: &ExecStart) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let environment: Vec<String> =
            start.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = json!({
            "AttachStdin": start.stdin,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": start.tty,
            "Cmd": start.command,
            "Env": environment,
            "WorkingDir": start.working_dir.clone().unwrap_or_default(),
            "User": start.user.clone().unwrap_or_default(),
        });
        let path = format!("/containers/{}/exec", quoted(container));
        let created: Created =
            self.send(Request::new("POST", path, "preparing the command").json(&body))?.json()?;
        Ok(created.id)
    }

    /// Runs it; its streams are the connection's: as they are with a terminal, else in [`crate::Frames`].
    pub fn exec_start(&self, exec: &str, tty: bool) -> Result<Upgraded, EngineError> {
        let path = format!("/exec/{}/start", quoted(exec));
        let request = Request::new("POST", path, "running the command").timeout(Some(ANSWER));
        self.upgrade(request.json(&json!({ "Detach": false, "Tty": tty })))
    }

    pub fn exec_resize(&self, exec: &str, rows: u16, columns: u16) -> Result<(), EngineError> {
        let path = format!("/exec/{}/resize?h={rows}&w={columns}", quoted(exec));
        self.send(Request::new("POST", path, "telling the size of the terminal"))?.finish()
    }

    pub fn exec_state(&self, exec: &str) -> Result<Exec, EngineError> {
        let path = format!("/exec/{}/json", quoted(exec));
        self.send(Request::new("GET", path, "looking at the command"))?.json()
    }
}
