"""Programs that tests run inside a sandbox."""

SYSTEM_CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
numbers = dict(
    x86_64=dict(mount=165, umount2=166, pivot_root=155, chroot=161, unshare=272, setns=308, ptrace=101, bpf=321,
        perf_event_open=298, keyctl=250, add_key=248, request_key=249, io_uring_setup=425, userfaultfd=323,
        kexec_load=246, init_module=175, delete_module=176, reboot=169, swapon=167, syslog=103, acct=163,
        settimeofday=164, clock_settime=227, sethostname=170, open_by_handle_at=304, name_to_handle_at=303,
        process_vm_readv=310, process_vm_writev=311, pidfd_getfd=438, quotactl=179, move_mount=429, fsopen=430,
        open_tree=428, mount_setattr=442, clone3=435, ioperm=173, iopl=172, modify_ldt=154, personality=135,
        fanotify_init=300, kcmp=312, memfd_secret=447, uselib=134, vhangup=153, io_setup=206),
).get(os.uname().machine, {{}})
number = numbers.get("{name}")
if number is None:
    print("number is not known")
else:
    done = libc.syscall(number, {arguments})
    print("OPEN" if done >= 0 else errno.errorcode[ctypes.get_errno()])
"""

REFUSED_CALLS = [
    ("mount", "b'none', b'/tmp', b'tmpfs', 0, None"),
    ("umount2", "b'/tmp', 2"),
    ("pivot_root", "b'/tmp', b'/tmp'"),
    ("chroot", "b'/tmp'"),
    ("unshare", "0x10000000"),
    ("unshare", "0x00020000"),
    ("setns", "os.open('/proc/1/ns/net', os.O_RDONLY), 0"),
    ("ptrace", "16, 1, 0, 0"),
    ("ptrace", "0, 0, 0, 0"),
    ("bpf", "0, None, 0"),
    ("perf_event_open", "None, 0, -1, -1, 0"),
    ("keyctl", "0, -3, 1"),
    ("add_key", "b'user', b'a', b'b', 1, -3"),
    ("request_key", "b'user', b'a', None, -3"),
    ("io_uring_setup", "1, None"),
    ("userfaultfd", "1"),
    ("kexec_load", "0, 0, None, 0"),
    ("init_module", "None, 0, b''"),
    ("delete_module", "b'loop', 0"),
    ("reboot", "0xfee1dead, 672274793, 0, None"),
    ("swapon", "b'/tmp/x', 0"),
    ("syslog", "3, ctypes.create_string_buffer(10), 10"),
    ("acct", "None"),
    ("settimeofday", "None, None"),
    ("clock_settime", "0, None"),
    ("sethostname", "b'x', 1"),
    ("open_by_handle_at", "-100, None, 0"),
    ("name_to_handle_at", "-100, b'/', None, None, 0"),
    ("process_vm_readv", "1, None, 0, None, 0, 0"),
    ("process_vm_writev", "1, None, 0, None, 0, 0"),
    ("pidfd_getfd", "0, 0, 0"),
    ("quotactl", "0, None, 0, None"),
    ("move_mount", "-100, b'/', -100, b'/tmp', 0"),
    ("fsopen", "b'tmpfs', 0"),
    ("open_tree", "-100, b'/', 1"),
    ("mount_setattr", "-100, b'/', 0, None, 0"),
    ("clone3", "None, 0"),
    ("ioperm", "0, 1, 1"),
    ("iopl", "3"),
    ("modify_ldt", "0, None, 0"),
    ("personality", "0x0040000"),
    ("fanotify_init", "0, 0"),
    ("kcmp", "1, 1, 0, 0, 0"),
    ("memfd_secret", "0"),
    ("uselib", "b'/x'"),
    ("vhangup", ""),
    ("io_setup", "64, ctypes.create_string_buffer(8)"),
]

FORK_UNTIL_REFUSED = """
import os, time
count = 0
try:
    while count < 200:
        if os.fork() == 0:
            time.sleep(20)
        count += 1
except OSError as error:
    print("refused", error.errno)
print(count)
"""

# Without single quotes: it is given to a shell in them.
HOLD_ALL_TERMINALS = """
import os, time
held = []
try:
    while len(held) < 5000:
        held.append(os.openpty())
except OSError:
    pass
print("full", flush=True)
time.sleep(30)
"""

# Without single quotes. Swaps a directory and a link to the folder of the machine that is its argument.
FLIP_LINKS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.mkdir("place"); open("place/outside.txt", "w").write("inside\\n")
os.symlink(sys.argv[1], "link")
print("flipping", flush=True)
while True:
    libc.renameat2(-100, b"place", -100, b"link", 2)
"""

# Without single quotes. Takes all memory for pipes that the kernel gives a user.
HOLD_ALL_PIPES = """
import fcntl, os, time
held = []
try:
    while len(held) < 1500:
        held.append(os.pipe())
        fcntl.fcntl(held[-1][1], 1031, 1 << 20)
except OSError:
    pass
try:
    while len(held) < 1500:
        held.append(os.pipe())
except OSError:
    pass
print("full", flush=True)
time.sleep(60)
"""
