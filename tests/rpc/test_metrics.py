"""The page of metrics and its listener, over a real connection."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from portway.rpc.errors import Unavailable, WrongState
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.metrics.config import MetricsConfig
from portway.rpc.metrics.families import Counts, Family, Histogram, counter, one_histogram
from portway.rpc.metrics.listener import CONNECTIONS, HEAD_BYTES, show_metrics


class Numbers:
    async def families(self) -> Iterable[Family]:
        histogram = Histogram((0.1, 1.0))
        for value in (0.05, 0.5, 0.5, 5.0):
            histogram.add(value)
        return [counter("portway_things", "Things.", 3), one_histogram("portway_thing_seconds", "Times.", histogram)]


class Broken:
    async def families(self) -> Iterable[Family]:
        raise Unavailable("the database is away")


@asynccontextmanager
async def shown(folder: Path, *sources: object) -> AsyncIterator[tuple[str, str]]:
    """The address of the listener, and its token."""
    config = MetricsConfig("127.0.0.1:0", folder / "metrics.token")
    async with show_metrics(config, None, list(sources)) as url:  # type: ignore[arg-type]
        yield url.removeprefix("http://").removesuffix("/metrics"), (folder / "metrics.token").read_text().strip()


async def ask(address: str, token: str, line: str = "GET /metrics HTTP/1.1") -> tuple[str, str]:
    """The first line of the answer, and its body."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{line}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def values(body: str) -> dict[str, float]:
    """Each sample of a page by its name and labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_the_page_has_counters_histograms_and_the_process(tmp_path: Path) -> None:
    async with shown(tmp_path, Numbers(), CallCounts()) as (address, token):
        status, body = await ask(address, token)
    assert status == "HTTP/1.1 200 OK"
    found = values(body)
    assert found["portway_things_total"] == 3
    assert found["portway_thing_seconds_bucket{le=0.1}"] == 1
    assert found["portway_thing_seconds_bucket{le=1.0}"] == 3
    assert found["portway_thing_seconds_bucket{le=+Inf}"] == found["portway_thing_seconds_count"] == 4
    assert found["portway_thing_seconds_sum"] == pytest.approx(6.05)
    assert found["process_open_fds"] > 0
    assert found["portway_metrics_sources_missing"] == 0


async def test_a_source_that_fails_leaves_the_others_readable(tmp_path: Path) -> None:
    async with shown(tmp_path, Broken(), Numbers()) as (address, token):
        found = values((await ask(address, token))[1])
    assert (found["portway_metrics_sources_missing"], found["portway_things_total"]) == (1, 3)


async def test_nobody_reads_without_the_token_and_a_new_one_counts_at_once(tmp_path: Path) -> None:
    async with shown(tmp_path, Numbers()) as (address, token):
        assert (tmp_path / "metrics.token").stat().st_mode & 0o777 == 0o600
        for wrong in ("", "wrong", token[:-1], token + "x"):
            status, body = await ask(address, wrong)
            assert status == "HTTP/1.1 401 Unauthorized"
            assert "portway_" not in body
        assert (await ask(address, "", "GET /other HTTP/1.1"))[0] == "HTTP/1.1 401 Unauthorized"
        assert (await ask(address, token, "GET /other HTTP/1.1"))[0] == "HTTP/1.1 404 Not Found"
        assert (await ask(address, token, "POST /metrics HTTP/1.1"))[0] == "HTTP/1.1 405 Method Not Allowed"
        (tmp_path / "metrics.token").write_text("another-token-of-the-operator\n")
        assert (await ask(address, token))[0] == "HTTP/1.1 401 Unauthorized"
        assert (await ask(address, "another-token-of-the-operator"))[0] == "HTTP/1.1 200 OK"
        (tmp_path / "metrics.token").write_text("")
        assert (await ask(address, ""))[0] == "HTTP/1.1 401 Unauthorized"


async def test_nonsense_and_too_much_end_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async with shown(tmp_path, Numbers()) as (address, token):
        host, port = address.split(":")
        for sent in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"G" * (HEAD_BYTES * 3), b"GET /metrics HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            writer.write_eof()
            try:
                assert b"portway_things" not in await reader.read()
            except ConnectionResetError:
                pass
            writer.close()
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(CONNECTIONS)]
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()
        for _, one in silent:
            one.close()
        while (await ask(address, token))[0] != "HTTP/1.1 200 OK":
            pass


async def test_off_loopback_needs_tls(tmp_path: Path) -> None:
    config = MetricsConfig("0.0.0.0:0", tmp_path / "token")
    with pytest.raises(WrongState, match="plain text"):
        async with show_metrics(config, None, []):
            pass


async def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    async with shown(tmp_path) as (address, _):
        with pytest.raises(WrongState, match="cannot show metrics"):
            async with show_metrics(MetricsConfig(address, tmp_path / "token"), None, []):
                pass


def test_nothing_is_shown_without_a_token_file() -> None:
    with pytest.raises(ValueError, match="token_file"):
        MetricsConfig("127.0.0.1:0")


def test_labels_are_bounded() -> None:
    counts = Counts(limit=2)
    for name in ("a", "b", "c", "d", "a"):
        counts.add(name)
    assert dict(counts.items()) == {("a",): 2, ("b",): 1, ("other",): 2}
