"""What every runner must do, whatever it is written in. Host and runtime are real; the runner is the subject."""

import pytest

from portway.runtime.kit.behaviours import GENERAL, WORDS, Behaviour
from portway.runtime.kit.subject import Subject


@pytest.mark.parametrize("behaviour", [*GENERAL, *WORDS], ids=lambda one: one.name.replace(" ", "-"))
async def test_it_behaves(subject: Subject, behaviour: Behaviour) -> None:
    await behaviour.check(subject)
