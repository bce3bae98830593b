"""The runner of Langflow against Langflow itself."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from portway.runtime.kit.host_end import HostEnd
from tests.contracts.service.conftest import VENDORS, Bench, Subject
from tests.fakes.services.langflow import FakeLangflow
from tests.peers.npm import PeerMissing
from tests.peers.real_langflow import RealLangflow, start_langflow

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True)
class Furnished:
    langflow: RealLangflow
    flow_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Furnished]:
    try:
        async with start_langflow(tmp_path_factory.mktemp("langflow")) as langflow:
            yield Furnished(langflow, await langflow.publish("echo"))
    except PeerMissing as missing:
        pytest.skip(f"no real Langflow here: {missing}")


@pytest_asyncio.fixture(loop_scope="module")
async def subject(bench: Bench, real: Furnished) -> Subject:
    fake = FakeLangflow(base_url=real.langflow.base_url)
    return Subject(VENDORS["langflow"], fake, HostEnd(bench.channel, "plugin:portway/langflow/default"))


def at(real: Furnished, **more: Any) -> dict[str, Any]:
    return {"api_key": real.langflow.api_key, "flow_id": real.flow_id, **more}


@pytest.mark.parametrize("streaming", [True, False])
async def test_it_answers(subject: Subject, real: Furnished, streaming: bool) -> None:
    run = await subject.ask(**at(real, streaming=streaming))
    assert run.kinds[-2:] == ["message_completed", "run_completed"], run.results
    assert run.message == "hello there"


async def test_a_flow_is_found_by_its_name_too(subject: Subject, real: Furnished) -> None:
    assert (await subject.ask(**at(real, flow_id="echo", output_component="ChatOutput-1"))).message == "hello there"


@pytest.mark.parametrize("streaming", [True, False])
async def test_files_go_there(subject: Subject, real: Furnished, streaming: bool) -> None:
    about = subject.with_file("note.txt", b"first line\nsecond line\n")
    run = await subject.ask(about=about, **at(real, file_component="ChatInput-1", streaming=streaming))
    assert run.kinds[-1] == "run_completed", run.results


async def test_what_goes_wrong_there_is_told(subject: Subject, real: Furnished) -> None:
    absent = await subject.ask(**at(real, flow_id="nowhere"))
    assert (absent.error.code, absent.error.retryable) == ("service.not_found", False), absent.error
    wrong = "sk-wrong-key-0123456789"
    refused = await subject.ask(**at(real, api_key=wrong))
    assert refused.error.code == "service.auth", refused.error
    assert wrong not in str(refused.results)
    bad = await subject.ask(**at(real, tweaks='{"ChatOutput-1": {"sender": 7}}', output_component="Nothing-1"))
    assert bad.error.code in ("service.unavailable", "service.bad_request", "runner.empty_output", "service.failed")
