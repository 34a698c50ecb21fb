use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

#[test]
fn the_program_waits_until_it_is_killed() {
    let Some(program) = program(std::env::consts::ARCH) else { return };
    let path = std::env::temp_dir().join(format!("sinew-hold-{}", std::process::id()));
    std::fs::write(&path, program).expect("write");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let mut child = Command::new(&path).spawn().expect("the kernel takes it");
    // Asleep in its only system call: it neither spins nor ends.
    let stat = format!("/proc/{}/stat", child.id());
    let sleeps = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S "));
    while !sleeps() {
        assert!(child.try_wait().expect("look").is_none(), "it ended");
        std::thread::yield_now();
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn there_is_a_program_for_each_supported_machine() {
    let machine = |architecture| program(architecture).map(|file| u16::from_le_bytes([file[18], file[19]]));
    assert_eq!([machine("x86_64"), machine("aarch64"), machine("riscv64")], [Some(62), Some(183), None]);
    assert!(program("aarch64").is_some_and(|file| file.len() == 120 + 8 * 4));
}
