//! The filter for system calls of everything in a seal: what a service never needs and the kernel has had most of its
//! holes in. Refused calls answer EPERM; nothing is killed. Written out as classic BPF: the program is short, and the
//! kernel's cache of constant answers works on it, so that only the few calls with checked arguments pay at run time.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// Where the lower half of an argument lies (little endian).
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = 0x7fff_0000;
const fn refuse(errno: i32) -> u32 {
    0x0005_0000 | errno as u32
}

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// Only for unshare(2): in the flags of clone(2) the bit belongs to the exit signal.
const TIME_NAMESPACE: i32 = 0x80;

/// Refused to everybody, whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    467, // open_tree_attr
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    443, // quotactl_fd
    libc::SYS_acct,
    // Other namespaces, other processes' descriptors, files by number.
    libc::SYS_setns,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    // Programs and modules for the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // The launcher's keyrings are not in a namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The machine.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// What the init needs to keep folders as the host has them, and nobody else may.
const OF_THE_INIT: &[libc::c_long] = &[libc::SYS_umount2, libc::SYS_open_tree, libc::SYS_move_mount];

/// What the init of a container needs besides to mount something in it.
const OF_WHO_MOUNTS: &[libc::c_long] = &[libc::SYS_setns, libc::SYS_mount_setattr];

pub fn of_the_init() -> Vec<sock_filter> {
    program(REFUSED.iter().copied(), NAMESPACES)
}

/// Of an init of a container that mounts. It has no process of a service below it.
pub fn of_who_mounts() -> Vec<sock_filter> {
    let refused = REFUSED.iter().copied().filter(|number| !OF_WHO_MOUNTS.contains(number));
    program(refused, NAMESPACES & !libc::CLONE_NEWNS)
}

/// On top of the one that they get from the init.
pub fn of_services() -> Vec<sock_filter> {
    program(REFUSED.iter().chain(OF_THE_INIT).copied(), NAMESPACES)
}

/// `namespaces`: flags of those that are not unshared.
fn program(refused: impl Iterator<Item = libc::c_long>, namespaces: i32) -> Vec<sock_filter> {
    let mut code = Code(Vec::new());
    let eperm = refuse(libc::EPERM);

    // Another instruction set (32 bit, x32) would call everything by other numbers.
    code.load(ARCHITECTURE_AT);
    code.unless_equal(ARCHITECTURE, eperm);
    code.load(NUMBER_AT);
    code.jump(BPF_JGE, 0x4000_0000, eperm);

    for number in refused {
        code.jump(BPF_JEQ, number as u32, eperm);
    }
    // Its flags lie in memory, where a filter cannot look. Programs then take clone(2), whose flags it sees.
    code.jump(BPF_JEQ, libc::SYS_clone3 as u32, refuse(libc::ENOSYS));

    code.when(libc::SYS_clone, |code| {
        code.load(argument_at(0));
        code.jump(BPF_JSET, NAMESPACES as u32, eperm);
    });
    code.when(libc::SYS_unshare, |code| {
        code.load(argument_at(0));
        code.jump(BPF_JSET, (namespaces | TIME_NAMESPACE) as u32, eperm);
    });
    code.when(libc::SYS_socket, |code| {
        // AF_NETLINK: only NETLINK_ROUTE (0), from which interfaces and addresses are read.
        code.load(argument_at(0));
        code.0.push(jump(BPF_JEQ, libc::AF_NETLINK as u32, 0, 4));
        code.load(argument_at(2));
        code.0.push(jump(BPF_JEQ, libc::NETLINK_ROUTE as u32, 0, 1));
        code.answer(ALLOW);
        code.answer(eperm);
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            code.jump(BPF_JEQ, family as u32, ALLOW);
        }
        code.answer(refuse(libc::EAFNOSUPPORT));
    });
    code.when(libc::SYS_ioctl, |code| {
        // Typing into the terminal of who runs a command inside.
        code.load(argument_at(1));
        code.jump(BPF_JEQ, libc::TIOCSTI as u32, eperm);
        code.jump(BPF_JEQ, libc::TIOCLINUX as u32, eperm);
    });
    code.answer(ALLOW);
    code.0
}

struct Code(Vec<sock_filter>);

impl Code {
    fn load(&mut self, at: u32) {
        self.0.push(statement(BPF_LD | BPF_W | BPF_ABS, at));
    }

    fn answer(&mut self, answer: u32) {
        self.0.push(statement(BPF_RET | BPF_K, answer));
    }

    /// Answers when the test is true, else goes on.
    fn jump(&mut self, test: u32, value: u32, answer: u32) {
        self.0.push(jump(test, value, 0, 1));
        self.answer(answer);
    }

    fn unless_equal(&mut self, value: u32, answer: u32) {
        self.0.push(jump(BPF_JEQ, value, 1, 0));
        self.answer(answer);
    }

    /// `body` runs for one system call and then allows it, unless it answered otherwise.
    fn when(&mut self, number: libc::c_long, body: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        body(&mut inner);
        inner.answer(ALLOW);
        self.0.push(jump(BPF_JEQ, number as u32, 0, inner.0.len() as u8));
        self.0.extend(inner.0);
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(test: u32, k: u32, when_true: u8, when_false: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt: when_true, jf: when_false, k }
}
