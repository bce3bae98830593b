"""How the processes below this one are found."""

import os
import subprocess

from portway.runtime.workers import linux


def test_both_ways_of_finding_children_find_the_same() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert child.pid in linux.children_of_this_process()
        assert child.pid in linux._searched_children()
        assert os.getpid() not in linux._searched_children()
    finally:
        child.kill()
        child.wait()
