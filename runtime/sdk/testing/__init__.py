"""A host in the same process, for tests of runners: it checks permissions and resources as the real one does."""

from portway.runtime.sdk.testing.drive import Outcome, run_runner
from portway.runtime.sdk.testing.host import FakeHost
from portway.runtime.sdk.testing.things import Things, ToolFunction

__all__ = ["FakeHost", "Outcome", "Things", "ToolFunction", "run_runner"]
