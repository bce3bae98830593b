"""Loop devices, which make a file a disk that can be mounted."""

import contextlib
import errno
import fcntl
import os
import struct

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_FLAG_AUTOCLEAR = 4
_TRIES = 64
# struct loop_config: fd, block_size, struct loop_info64 (232 bytes), 8 reserved words.
_INFO_SIZE = 232
_INFO_FLAGS_OFFSET = 8 * 5 + 4 * 3
_CONFIG = struct.Struct(f"=II{_INFO_SIZE}s64s")


def attach_loop(image: int, devices: str) -> int:
    """A free loop device with the open image in it; it clears itself when the last user (a mount) is gone.

    Returns an open descriptor of the device, which keeps it until then. Needs root.
    """
    control = os.open(f"{devices}/loop-control", os.O_RDWR | os.O_CLOEXEC)
    info = bytearray(_INFO_SIZE)
    struct.pack_into("=I", info, _INFO_FLAGS_OFFSET, _FLAG_AUTOCLEAR)
    config = _CONFIG.pack(image, 0, bytes(info), bytes(64))
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            with contextlib.suppress(FileNotFoundError):
                device = os.open(f"{devices}/loop{number}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                except OSError as error:
                    os.close(device)
                    if error.errno != errno.EBUSY:  # somebody else was faster
                        raise
                else:
                    return device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device can be had")
