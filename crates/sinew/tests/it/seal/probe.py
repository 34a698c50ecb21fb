"""A hostile service: tries to leave its seal in every way it knows, and prints each attempt.

`FAILED TO HOLD` in the output, and exit code 1, mean that something worked. What it is looking for is in the environment: PROBE_HOST_PID is a
process outside, PROBE_OTHERS are host paths of other services, separated by colons, PROBE_SECRET is a text that must
not be found anywhere.
"""
import ctypes
import errno
import os
import socket
import stat
import struct
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
held = True


class Refused(Exception):
    pass


# In a container (PROBE_CONTAINER) the first process is the service itself, its root may be written, and its user 0 has the
# capabilities that stay inside.
CONTAINER = "PROBE_CONTAINER" in os.environ
OWN = ("read /proc/1/", "look into /proc/1/", "follow /proc/1/", "list /proc/1/", "write /proc/1/", "write oom_score_adj of the init",
       "ptrace attach the init", "ptrace seize the init", "process_vm_readv of the init", "pidfd_getfd from the init",
       "have a capability", "become another user", "change groups", "chown a file", "chroot escape", "write /probe",
       "kill the init and see it die", "write /etc/", "write /dev/probe",
       # Not refused, but killed.
       "a call of the x32 numbering")


def attempt(what, function, *arguments):
    global held
    if CONTAINER and what.startswith(OWN):
        return
    try:
        result = function(*arguments)
    except (OSError, ValueError, Refused, subprocess.CalledProcessError) as error:
        print(f"held: {what}: {error}")
        return
    held = False
    print(f"FAILED TO HOLD: {what}: {result!r}")


def call(number, *arguments):
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


x86 = os.uname().machine == "x86_64"


def number(on_x86, on_arm):
    return on_x86 if x86 else on_arm


# What it was started with; looked at before anything else is opened.
def inherited():
    names = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            if int(fd) > 2:
                names[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass
    names = {fd: name for fd, name in names.items() if not name.startswith("/proc/")}
    return names if names else (_ for _ in ()).throw(Refused("nothing"))


attempt("find an inherited descriptor", inherited)


# Other processes.
HOST_PID = int(os.environ["PROBE_HOST_PID"])


def kill_init():
    # The kernel drops signals to the first process of a pid namespace without an error; it must be there afterwards.
    os.kill(1, 9)
    os.kill(1, 11)
    import time
    for _ in range(20):
        if not os.path.isdir("/proc/1"):
            return "init is gone"
        time.sleep(0.005)
    raise Refused("it lives on")


attempt("kill the init and see it die", kill_init)
attempt("signal a process of the host", os.kill, HOST_PID, 0)
for name in ("mem", "environ", "maps", "auxv", "stack", "io", "syscall"):
    attempt(f"read /proc/1/{name}", lambda: open(f"/proc/1/{name}", "rb").read(1))
for name in ("root", "cwd", "exe", "ns/net", "ns/mnt", "ns/pid", "ns/user"):
    attempt(f"follow /proc/1/{name}", os.readlink, f"/proc/1/{name}")
attempt("list /proc/1/fd", os.listdir, "/proc/1/fd")
attempt("list /proc/1/root", os.listdir, "/proc/1/root/")
attempt("write /proc/1/mem", lambda: open("/proc/1/mem", "wb"))
attempt("write oom_score_adj of the init", lambda: open("/proc/1/oom_score_adj", "w").write("1000"))
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
attempt("ptrace attach the init", lambda: check(libc.ptrace(PTRACE_ATTACH, 1, 0, 0)))
attempt("ptrace seize the init", lambda: check(libc.ptrace(PTRACE_SEIZE, 1, 0, 0)))
attempt("ptrace attach a process of the host", lambda: check(libc.ptrace(PTRACE_ATTACH, HOST_PID, 0, 0)))


def process_memory():
    local = ctypes.create_string_buffer(8)

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    mine, theirs = Vector(ctypes.addressof(local), 8), Vector(0x400000, 8)
    return call(number(310, 270), 1, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)


attempt("process_vm_readv of the init", process_memory)


def steal_descriptor():
    pidfd = call(434, 1, 0)
    return call(438, pidfd, 3, 0)


attempt("pidfd_getfd from the init", steal_descriptor)
seen = [p for p in os.listdir("/proc") if p.isdigit()]
attempt("see a process of the host", lambda: seen if len(seen) > 4 else (_ for _ in ()).throw(Refused(f"{seen}")))


# Namespaces, mounts, roots.
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x10000000, 0x40000000, 0x20000000
for name, flag in (("user", CLONE_NEWUSER), ("mount", CLONE_NEWNS), ("net", CLONE_NEWNET), ("pid", CLONE_NEWPID)):
    attempt(f"unshare {name}", lambda flag=flag: check(libc.unshare(flag)))


def clone_namespace(flag):
    pid = call(number(56, 220), flag | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


attempt("clone into a user namespace", clone_namespace, CLONE_NEWUSER)


def clone3():
    arguments = ctypes.create_string_buffer(88)
    struct.pack_into("QQQQQ", arguments, 0, CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, 17)
    pid = call(435, arguments, 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


attempt("clone3 into namespaces", clone3)


def set_namespace(path):
    with open(path) as opened:
        return check(libc.setns(opened.fileno(), 0))


attempt("setns to the init's network", set_namespace, "/proc/1/ns/net")
attempt("setns to the own network", set_namespace, "/proc/self/ns/net")
attempt("setns by pidfd", lambda: call(number(308, 268), call(434, 1, 0), CLONE_NEWNS | CLONE_NEWNET))
for tool in (["nsenter", "-t", "1", "-a", "true"], ["nsenter", "-t", "1", "-m", "true"], ["unshare", "-Ur", "true"]):
    attempt(" ".join(tool), lambda: subprocess.run(tool, check=True, capture_output=True))
attempt("mount a tmpfs", lambda: check(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None)))
attempt("mount a proc", lambda: check(libc.mount(b"proc", b"/tmp", b"proc", 0, None)))
attempt("bind mount", lambda: check(libc.mount(b"/etc", b"/tmp", None, 4096, None)))
attempt("remount / writable", lambda: check(libc.mount(None, b"/", None, 32, None)))
for covered in (b"/proc/sys", b"/etc/shadow", b"/etc/hosts", b"/etc", b"/usr", b"/proc", b"/dev", b"/tmp"):
    attempt(f"umount {covered.decode()}", lambda: check(libc.umount2(covered, 0)))
    attempt(f"umount {covered.decode()} lazily", lambda: check(libc.umount2(covered, 2)))
attempt("pivot_root", lambda: call(number(155, 41), b"/tmp", b"/tmp"))
attempt("fsopen", lambda: call(430, b"tmpfs", 0))
attempt("open_tree", lambda: call(428, -100, b"/", 1))
attempt("move_mount", lambda: call(429, -100, b"/tmp", -100, b"/run", 0))
attempt("mount_setattr", lambda: call(442, -100, b"/", 0, ctypes.create_string_buffer(32), 32))
attempt("swapoff", lambda: check(libc.swapoff(b"/dev/zero")))


def escape_chroot():
    os.mkdir("/tmp/jail")
    outside = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(outside)
    for _ in range(64):
        os.chdir("..")
    return os.listdir(".")


attempt("chroot escape", escape_chroot)


def by_handle():
    handle = struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0)
    return call(number(304, 265), os.open("/usr", os.O_RDONLY), handle, 0)


attempt("open the host's root by handle", by_handle)
for kind, name in ((stat.S_IFBLK, "block"), (stat.S_IFCHR, "character")):
    attempt(f"mknod a {name} device", lambda: os.mknod(f"/tmp/{name}", kind | 0o600, os.makedev(254, 0)))
attempt("mknod kmem", lambda: os.mknod("/tmp/kmem", stat.S_IFCHR | 0o600, os.makedev(1, 2)))
for device in ("/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vsock"):
    attempt(f"open {device}", lambda: os.open(device, os.O_RDONLY))


# Writing to the host.
def write(path):
    with open(path, "r+b" if os.path.exists(path) else "wb") as opened:
        opened.write(b"")
        return "opened for writing"


for path in ("/usr/bin/env", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/usr/probe", "/etc/probe", "/probe",
             "/lib/probe", "/dev/probe", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
             "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
             "/proc/sys/kernel/ns_last_pid", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
             "/proc/self/exe", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/ksm/run",
             "/proc/1/exe", "/proc/acpi/wakeup"):
    attempt(f"write {path}", write, path)


# Reading from the host.
for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/proc/kcore",
             "/proc/kmsg", "/proc/keys", "/proc/cmdline", "/proc/iomem", "/proc/ioports"):
    def read(path=path):
        with open(path, "rb") as opened:
            return opened.read(1) or (_ for _ in ()).throw(Refused("empty"))
    attempt(f"read {path}", read)
for path in os.environ["PROBE_OTHERS"].split(":"):
    attempt(f"look at {path}", os.stat, path)
    attempt(f"list {path}", os.listdir, path)
SECRET = os.environ["PROBE_SECRET"].encode()[::-1]


# A project folder that is shown without its file `key`: the whole of it is mounted where no path leads.
PROJECT = os.environ["PROBE_PROJECT"]


def read_key(path):
    with open(path, "rb") as opened:
        return opened.read(1) or (_ for _ in ()).throw(Refused("empty"))


def by_name(folder, name):
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return os.read(os.open(name, os.O_RDONLY, dir_fd=opened), 1) or (_ for _ in ()).throw(Refused("empty"))


def by_handle_of_key(folder):
    # What is shown of the file system, as the place to start from; the handle of a file beside the hidden one.
    mount, handle = ctypes.c_int(), ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    call(number(303, 264), -100, os.path.join(folder, "app.py").encode(), handle, ctypes.byref(mount), 0)
    return call(number(304, 265), os.open(os.path.join(folder, "app.py"), os.O_RDONLY), handle, 0)


for top in (PROJECT, "/app"):
    for path in ("key", "app.py/../key", "../" + os.path.basename(PROJECT) + "/key", "./key"):
        attempt(f"read {top}/{path}", read_key, f"{top}/{path}")
    attempt(f"read key from an open {top}", by_name, top, "key")
    attempt(f"read key beside an open {top}/app.py", by_name, f"{top}/app.py/..", "key")
    attempt(f"open a file of {top} by handle", by_handle_of_key, top)
    attempt(f"make key of {top} readable", os.chmod, f"{top}/key", 0o777)
    attempt(f"remove key of {top}", os.unlink, f"{top}/key")
    attempt(f"move app.py of {top} onto key", os.rename, f"{top}/app.py", f"{top}/key")
    attempt(f"make a link to key in {top}", os.link, f"{top}/key", f"{top}/link")
    attempt(f"make a file in {top}", os.mknod, f"{top}/made")
    for covered in (top, f"{top}/app.py", f"{top}/key"):
        attempt(f"umount {covered}", lambda: check(libc.umount2(covered.encode(), 0)))
        attempt(f"umount {covered} lazily", lambda: check(libc.umount2(covered.encode(), 2)))
for held in ("/proc/0", "/proc/0/key", "/proc/1/root/proc/0", "/proc/1/cwd/proc/0", "/proc/self/root/proc/0",
             "/proc/self/cwd/../proc/0", "/proc/thread-self/root/proc/0", *(f"/proc/1/fd/{fd}" for fd in range(64))):
    attempt(f"look into {held}", os.listdir, held)


def search():
    own = str(os.getpid())
    for pid in os.listdir("/proc"):
        if pid.isdigit() and pid != own:
            for name in ("environ", "cmdline", "mem"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as opened:
                        if SECRET in opened.read(1 << 20):
                            return f"/proc/{pid}/{name}"
                except OSError:
                    pass
    for top in os.listdir("/"):
        if top in ("proc", "sys", "usr", "lib", "lib64"):
            continue
        for folder, _, names in os.walk("/" + top):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if stat.S_ISREG(os.lstat(path).st_mode) and os.path.getsize(path) < 1 << 20:
                        with open(path, "rb") as opened:
                            if SECRET in opened.read():
                                return path
                except OSError:
                    pass
    raise Refused("not found anywhere")


attempt("find another service's secret", search)


# Sockets.
def unix_sockets():
    found = []
    for folder, folders, names in os.walk("/"):
        if folder in ("/proc", "/sys"):
            folders.clear()
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append(path)
            except OSError:
                pass
    return found


def connect_unix(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as s:
            try:
                s.connect(path)
                return f"connected to {path!r}"
            except OSError as error:
                last = error
    raise last


for path in unix_sockets():
    attempt(f"connect to {path}", connect_unix, path)
named = ["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
         "/run/crio/crio.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify",
         "/run/systemd/journal/socket", "/dev/log", "/run/sinew/admin.sock",
         f"/run/user/{os.getuid()}/bus", f"/run/user/{os.getuid()}/podman/podman.sock"]
for folder in os.environ["PROBE_OTHERS"].split(":"):
    named += [f"{folder}/{name}.sock" for name in ("admin", "init", "hop", "control")]
for path in named:
    attempt(f"connect to {path}", connect_unix, path)
with open("/proc/net/unix") as opened:
    abstract = [line.split()[-1] for line in opened if line.split()[-1].startswith("@")]
for name in abstract + ["@/tmp/dbus-probe", os.environ["PROBE_ABSTRACT"]]:
    attempt(f"connect to the abstract socket {name}", connect_unix, "\0" + name[1:])
for name, family, kind, protocol in (
    ("raw IPv4", socket.AF_INET, socket.SOCK_RAW, 255), ("raw ICMP", socket.AF_INET, socket.SOCK_RAW, 1),
    ("raw IPv6", socket.AF_INET6, socket.SOCK_RAW, 58), ("packet", 17, socket.SOCK_RAW, 0x0300),
    ("vsock", 40, socket.SOCK_STREAM, 0), ("bluetooth", 31, socket.SOCK_RAW, 1), ("can", 29, socket.SOCK_RAW, 1),
    ("alg", 38, socket.SOCK_SEQPACKET, 0), ("xdp", 44, socket.SOCK_RAW, 0), ("tipc", 30, socket.SOCK_RAW, 0),
    ("rds", 21, socket.SOCK_SEQPACKET, 0), ("key", 15, socket.SOCK_RAW, 2),
    ("netfilter netlink", 16, socket.SOCK_RAW, 12), ("audit netlink", 16, socket.SOCK_RAW, 9),
    ("uevent netlink", 16, socket.SOCK_RAW, 15), ("generic netlink", 16, socket.SOCK_RAW, 16),
):
    attempt(f"open a {name} socket", lambda: socket.socket(family, kind, protocol).close() or "opened")


def netlink(protocol, kind, flags, body):
    with socket.socket(16, socket.SOCK_RAW, protocol) as s:
        s.settimeout(2)
        s.send(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = s.recv(8192)
        code = struct.unpack_from("i", answer, 16)[0]
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        return "done"


REQUEST_ACK = 1 | 4
attempt("flush nftables", netlink, 12, (10 << 8) | 2, REQUEST_ACK, b"\0\0\0\0")
attempt("take loopback down", netlink, 0, 16, REQUEST_ACK, struct.pack("BxHiII", 0, 0, 1, 0, 1))
attempt("add an address", netlink, 0, 20, REQUEST_ACK | 0x400,
        struct.pack("BBBBi", 2, 24, 0, 0, 1) + struct.pack("HH4s", 8, 2, bytes([10, 66, 0, 1])))
attempt("delete the route", netlink, 0, 25, REQUEST_ACK, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 255, 0, 254, 2, 0))
for tool in (["nft", "flush", "ruleset"], ["iptables", "-F"], ["ip", "link", "set", "lo", "down"],
             ["ip", "route", "flush", "table", "local"]):
    attempt(" ".join(tool), lambda: subprocess.run(tool, check=True, capture_output=True))


def mark():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, 36, 1)
        return "marked"


attempt("mark packets", mark)


def bind_device():
    with socket.socket() as s:
        s.setsockopt(socket.IPPROTO_IP, 19, 1)
        return "transparent"


attempt("make a transparent socket", bind_device)
for address in ("10.0.0.1", "169.254.169.254", "8.8.8.8", os.environ["PROBE_HOST_ADDRESS"]):
    for port in (22, 80, int(os.environ["PROBE_HOST_PORT"])):
        attempt(f"connect to {address}:{port}", lambda: socket.create_connection((address, port), 2))
attempt("connect to the host's listener on loopback", lambda: socket.create_connection(
    ("127.0.0.1", int(os.environ["PROBE_HOST_PORT"])), 2))
for port in (64999, 64998):
    attempt(f"connect to the sidecar's port {port}", lambda: socket.create_connection(("127.0.0.1", port), 2))

# The kernel.
attempt("io_uring_setup", lambda: call(425, 8, ctypes.create_string_buffer(120)))
attempt("bpf", lambda: call(number(321, 280), 5, ctypes.create_string_buffer(120), 120))
attempt("userfaultfd", lambda: call(number(323, 282), 0))
attempt("perf_event_open", lambda: call(number(298, 241), ctypes.create_string_buffer(128), 0, -1, -1, 0))
attempt("keyctl", lambda: call(number(250, 219), 0, -3, 0))
attempt("add_key", lambda: call(number(248, 217), b"user", b"probe", b"x", 1, -3))
attempt("kexec_load", lambda: call(number(246, 104), 0, 0, 0, 0))
attempt("init_module", lambda: call(number(175, 105), b"x", 1, b""))
attempt("reboot", lambda: call(number(169, 142), 0xFEE1DEAD, 672274793, 0, 0))
attempt("syslog", lambda: call(number(103, 116), 3, ctypes.create_string_buffer(10), 10))
attempt("sethostname", lambda: socket.sethostname("probe"))
attempt("settimeofday", lambda: check(libc.settimeofday(ctypes.create_string_buffer(16), None)))
attempt("acct", lambda: check(libc.acct(None)))
if x86:
    attempt("iopl", lambda: call(172, 3))
    attempt("a call of the x32 numbering", lambda: call(0x40000000 + 39))


# Privileges.
def capabilities():
    with open("/proc/self/status") as opened:
        sets = {line.split()[0]: int(line.split()[1], 16) for line in opened if line.startswith("Cap")}
    if any(sets.values()):
        return sets
    raise Refused("none")


attempt("have a capability", capabilities)
attempt("become another user", lambda: os.setresuid(12345, 12345, 12345))
attempt("change groups", lambda: os.setgroups([0, 5]))
attempt("chown a file", lambda: (open("/tmp/own", "w").close(), os.chown("/tmp/own", 12345, 12345)))


def set_uid_program():
    for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/bin/su"):
        if os.path.exists(path) and os.lstat(path).st_mode & stat.S_ISUID:
            code = subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "x", "/tmp"], capture_output=True)
            if code.returncode == 0:
                return path
    raise Refused("set-uid is ignored")


attempt("use a set-uid program", set_uid_program)
attempt("raise the hard limit of open files", lambda: __import__("resource").setrlimit(
    __import__("resource").RLIMIT_NOFILE, (1 << 20, 1 << 21)))


print("ALL HELD" if held else "NOT ALL HELD")
sys.exit(0 if held else 1)
