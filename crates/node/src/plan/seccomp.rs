//! The filter of system calls of a container, as its engine reads it: the one of processes (`init::filter`), but for
//! chroot(2), which servers in images use. Engines' own filters let user namespaces and mounts through.

use serde_json::{Value, json};

const REFUSED: &[&str] = &[
    // Mounts.
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "swapon",
    "swapoff",
    "quotactl",
    "quotactl_fd",
    "acct",
    // Other namespaces, other processes' descriptors, files by number.
    "setns",
    "pidfd_getfd",
    "open_by_handle_at",
    // Programs and modules for the kernel.
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "syslog",
    "fanotify_init",
    "lookup_dcookie",
    // Keyrings are not in a namespace.
    "keyctl",
    "add_key",
    "request_key",
    // The machine.
    "settimeofday",
    "clock_settime",
    "sethostname",
    "setdomainname",
    "vhangup",
    "iopl",
    "ioperm",
];

const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// Only for unshare(2): in the flags of clone(2) the bit belongs to the exit signal.
const TIME_NAMESPACE: i32 = 0x80;

/// Open: AF_UNIX, AF_INET, AF_INET6, and of AF_NETLINK the reading of interfaces and addresses.
const FAMILIES_CLOSED: [i32; 13] = [0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];

pub fn profile() -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let refuse = |names: Value, errno: i32, arguments: Value| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments });
    let bit =
        |flag: i32| json!([{ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" }]);
    let mut rules = vec![
        refuse(json!(REFUSED), libc::EPERM, json!([])),
        // Its flags lie in memory, where a filter cannot look. Programs then take clone(2), whose flags it sees.
        refuse(json!(["clone3"]), libc::ENOSYS, json!([])),
    ];
    for flag in NAMESPACES {
        rules.push(refuse(json!(["clone", "unshare"]), libc::EPERM, bit(flag)));
    }
    rules.push(refuse(json!(["unshare"]), libc::EPERM, bit(TIME_NAMESPACE)));
    let family = |number: i32, operator: &str| json!({ "index": 0, "value": number, "op": operator });
    for closed in FAMILIES_CLOSED {
        let wanted = json!([family(closed, "SCMP_CMP_EQ")]);
        rules.push(refuse(json!(["socket"]), libc::EAFNOSUPPORT, wanted));
    }
    let beyond = json!([family(libc::AF_NETLINK, "SCMP_CMP_GT")]);
    rules.push(refuse(json!(["socket"]), libc::EAFNOSUPPORT, beyond));
    let other_netlink = json!([
        family(libc::AF_NETLINK, "SCMP_CMP_EQ"),
        { "index": 2, "value": libc::NETLINK_ROUTE, "op": "SCMP_CMP_NE" }
    ]);
    rules.push(refuse(json!(["socket"]), libc::EPERM, other_netlink));
    // Typing into the terminal of who runs a command inside.
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        let wanted = json!([{ "index": 1, "value": request, "op": "SCMP_CMP_EQ" }]);
        rules.push(refuse(json!(["ioctl"]), libc::EPERM, wanted));
    }
    // Another instruction set would call everything by other numbers: what is not named here is killed.
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture], "syscalls": rules })
}
