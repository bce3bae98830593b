"""The system call filters that are shipped are the ones that the policy makes."""

import importlib.util
import platform
import struct

import pytest

from portway.box.isolation import seccomp
from portway.box.isolation.seccomp import ARCHITECTURES, NoPrograms, program_files


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_shipped_filter_is_what_the_policy_makes(machine: str) -> None:
    if importlib.util.find_spec("pyseccomp") is None:
        pytest.skip("pyseccomp is not installed, so no filter can be built here")
    if machine != platform.machine() and platform.machine() != "x86_64":
        pytest.skip("the shipped filters were built on x86_64, where names of foreign calls resolve as they did")
    built = seccomp.build(machine)
    assert tuple(file.read_bytes() for file in program_files(machine)) == built


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_filter_is_whole_and_fits_what_the_kernel_takes(machine: str) -> None:
    for file in program_files(machine):
        program = file.read_bytes()
        assert len(program) % 8 == 0
        assert 2 <= len(program) // 8 <= 4096
        code, _true, _false, _value = struct.unpack("=HBBI", program[-8:])
        assert code == 0x06, "the last instruction returns"


def test_an_architecture_without_filters_is_said_and_not_run_without() -> None:
    with pytest.raises(NoPrograms, match="riscv64"):
        program_files("riscv64")
