//! A container that does nothing: it holds a network that is made ready before others join it. Docker has no other way to
//! start a container in a network of one's own making.

use std::io::Cursor;

use crate::container::{Create, Flavored, Network};
use crate::http::{Body, PATIENCE, Request, quoted};
use crate::image::follow;
use crate::tar::{self, Entry, Kind};
use crate::{Engine, EngineError};

/// The image that holders run: one program, made here.
const REPOSITORY: &str = "sinew.dev/network-holder";
/// Another program is another tag.
const TAG: &str = "1";
const PROGRAM: &str = "/hold";
/// It is one; but the engine's runtime starts it with threads of its own.
const PROCESSES_MAX: u64 = 64;

/// ELF, for 64 bits, little-endian: System V ABI, chapters 4 and 5.
const EXECUTABLE: u16 = 2;
const LOADED: u32 = 1;
const READ_AND_EXECUTE: u32 = 5;
const HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const AT: u64 = 0x40_0000;

impl Engine {
    /// Starts a holder. Its network holds a loopback interface and nothing else. `like`: a container that will join it;
    /// name, labels and host name are taken from there. The pid of its process, as seen from the host.
    pub fn hold_network(&self, like: &Create) -> Result<i32, EngineError> {
        let image = format!("{REPOSITORY}:{TAG}");
        if self.image(&image)?.is_none() {
            self.import_holder()?;
        }
        let name = holder_of(&like.name);
        let holder = Create {
            name: name.clone(),
            image,
            command: vec![PROGRAM.to_owned()],
            hostname: like.hostname.clone(),
            labels: like.labels.clone(),
            network: Network::None,
            filter: like.filter.clone(),
            read_only: true,
            pids: Some(PROCESSES_MAX),
            flavored: Flavored { hidden: Vec::new(), ..like.flavored.clone() },
            ..Create::default()
        };
        self.create(&holder)?;
        self.start(&name)?;
        match self.state(&name)? {
            Some(state) if state.is_running && state.pid > 0 => Ok(state.pid),
            _ => Err(EngineError::Unusable(format!(
                "the container {name}, which holds a network, ended at once"
            ))),
        }
    }

    fn import_holder(&self) -> Result<(), EngineError> {
        let attempted = "making the image that holds networks".to_owned();
        let Some(program) = program(std::env::consts::ARCH) else {
            return Err(EngineError::Unusable(format!(
                "{attempted}: this host is a {}, and there is a program for x86_64 and aarch64; use Podman",
                std::env::consts::ARCH
            )));
        };
        let entry = Entry {
            path: PROGRAM.trim_start_matches('/').into(),
            kind: Kind::File,
            size: program.len() as u64,
            mode: 0o755,
            modified_s: 0,
        };
        let mut archive = entry.header();
        archive.extend(&program);
        // Two empty blocks are the end.
        archive.resize(archive.len().next_multiple_of(tar::BLOCK) + 2 * tar::BLOCK, 0);
        let path = format!("/images/create?fromSrc=-&repo={}&tag={TAG}", quoted(REPOSITORY));
        let mut archive = Cursor::new(archive);
        let mut request = Request::new("POST", path, attempted.clone()).timeout(Some(PATIENCE));
        request.body = Body::Tar(&mut archive);
        follow(self.send(request)?.body(), &attempted, &mut |_| {})
    }
}

/// The holder's name, of the container that joins it.
pub fn holder_of(container: &str) -> String {
    format!("{container}-network")
}

/// Waits, for ever; no signal but SIGKILL ends a process 1 that handles none.
fn program(architecture: &str) -> Option<Vec<u8>> {
    let (machine, code): (u16, &[u8]) = match architecture {
        // mov eax, 34 (pause); syscall; jmp to the first
        "x86_64" => (62, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
        // movz x0..x4, 0; movz x8, 73 (ppoll); svc 0; b to the first
        "aarch64" => (
            183,
            &[
                0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80,
                0xd2, 0x04, 0x00, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xf9, 0xff,
                0xff, 0x17,
            ],
        ),
        _ => return None,
    };
    let head = u64::from(HEADER_BYTES + PROGRAM_HEADER_BYTES);
    let size = head + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let two = |value: u16, file: &mut Vec<u8>| file.extend(value.to_le_bytes());
    let four = |value: u32, file: &mut Vec<u8>| file.extend(value.to_le_bytes());
    let eight = |value: u64, file: &mut Vec<u8>| file.extend(value.to_le_bytes());
    two(EXECUTABLE, &mut file);
    two(machine, &mut file);
    four(1, &mut file);
    // Entry, program headers, section headers.
    [AT + head, HEADER_BYTES.into(), 0].into_iter().for_each(|value| eight(value, &mut file));
    four(0, &mut file);
    [HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0].into_iter().for_each(|value| two(value, &mut file));
    four(LOADED, &mut file);
    four(READ_AND_EXECUTE, &mut file);
    // Offset, two addresses, size in the file and in memory, alignment.
    [0, AT, AT, size, size, 0x1000].into_iter().for_each(|value| eight(value, &mut file));
    file.extend(code);
    Some(file)
}

#[cfg(test)]
mod tests;
