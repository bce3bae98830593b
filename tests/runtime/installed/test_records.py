"""The records of what operators decided: kept, counted, read strictly, and whole after a kill."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portway.rpc.errors import Stale
from portway.runtime.installed.build import open_stored
from portway.runtime.installed.config import InstallingConfig
from portway.runtime.installed.order import is_older
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.types import MAX_REQUESTS, Record, Request, Signature, Version

ONE = Version("1.0.0", "a" * 64, "test.one/1.0.0-aa", 5, ("models.invoke",), Signature("k", "ff"), 7, 3)
FULL = Record(
    "test/one",
    current="a" * 64,
    history=("b" * 64,),
    waiting=("c" * 64,),
    versions=(ONE, replace(ONE, version="0.9", digest="b" * 64, signature=None)),
    granted=("models.invoke",),
    disabled=True,
    disabled_because="noise",
    requests=(Request("r", "install", "a" * 64),),
)


@pytest.fixture(params=["as written", "opened again"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[FileRecords], FileRecords]:
    """Everything holds for the records that were written to, and for those that read what was written."""
    return lambda records: records if request.param == "as written" else FileRecords(tmp_path)


def test_what_is_put_is_there(tmp_path: Path, reopened: Callable[[FileRecords], FileRecords]) -> None:
    records = FileRecords(tmp_path)
    assert records.get("test/one") == Record("test/one")
    kept = records.put(FULL)
    assert kept == replace(FULL, generation=1)
    assert reopened(records).get("test/one") == kept
    assert dict(reopened(records).all()) == {"test/one": kept}
    assert not reopened(records).problems()


def test_an_older_generation_changes_nothing(tmp_path: Path, reopened: Callable[[FileRecords], FileRecords]) -> None:
    records = FileRecords(tmp_path)
    first = records.put(FULL)
    second = records.put(replace(first, disabled=False))
    for stale in (FULL, first, replace(second, generation=99)):
        with pytest.raises(Stale):
            reopened(records).put(stale)
    assert reopened(records).get("test/one") == second


def test_what_is_forgotten_is_gone(tmp_path: Path, reopened: Callable[[FileRecords], FileRecords]) -> None:
    records = FileRecords(tmp_path)
    records.put(FULL)
    records.put(Record("test/two"))
    records.forget(["test/one"])
    assert list(reopened(records).all()) == ["test/two"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1}',
        b'{"format": 1, "plugin_id": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_record_that_cannot_be_read_is_a_problem_and_hides_no_other(tmp_path: Path, content: bytes) -> None:
    records = FileRecords(tmp_path)
    kept = records.put(FULL)
    (tmp_path / "test.two.json").write_bytes(content)
    again = FileRecords(tmp_path)
    assert again.get("test/one") == kept
    (problem,) = again.problems()
    assert problem.plugin == "test/two"
    assert (tmp_path / "test.two.json").exists(), "it may be put right by hand"


@pytest.mark.parametrize("folder", ["../outside", "a/b/c", "/etc", "..", "a/..", ""])
def test_a_record_cannot_name_a_folder_elsewhere(tmp_path: Path, folder: str) -> None:
    FileRecords(tmp_path).put(replace(FULL, versions=(replace(ONE, folder=folder),)))
    assert len(FileRecords(tmp_path).problems()) == 1


def test_requests_are_bounded() -> None:
    record = Record("test/one")
    for number in range(100):
        record = record.remembering(f"r{number}", "install")
    assert len(record.requests) == MAX_REQUESTS
    assert record.request("r99") is not None
    assert record.request("r0") is None
    assert record.request("") is None


def test_a_start_removes_what_nobody_names_and_spares_what_it_cannot_read(tmp_path: Path) -> None:
    def stored() -> None:
        open_stored(InstallingConfig(), tmp_path, [], [])

    stored()
    versions, incoming = tmp_path / "versions", tmp_path / "incoming"
    FileRecords(tmp_path / "records").put(replace(FULL, versions=(ONE,)))
    (tmp_path / "records" / "test.broken.json").write_text("{")
    (tmp_path / "records" / "test.one.json.77.new").write_text("torn")
    for name in (ONE.folder, "test.one/2.0-bb", "test.one/.gone-1", "test.broken/1-aa", "test.gone/1-aa"):
        (versions / name).mkdir(parents=True)
    (incoming / "x").mkdir()
    stored()
    assert sorted(str(one.relative_to(versions)) for one in versions.glob("*/*")) == ["test.broken/1-aa", ONE.folder]
    assert not list(incoming.iterdir())
    assert sorted(one.name for one in (tmp_path / "records").iterdir()) == ["test.broken.json", "test.one.json"]


def test_which_version_is_older() -> None:
    order = ["0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.0.1", "1.2", "1.10", "2", "10.0"]
    for older, newer in zip(order, order[1:], strict=False):
        assert is_older(older, newer), (older, newer)
        assert not is_older(newer, older), (older, newer)
    for one, other in (("1.0", "1.0.0"), ("1.0+a", "1.0+b"), ("spring", "autumn"), ("1.0", "autumn"), ("v1", "1")):
        assert not is_older(one, other)
        assert not is_older(other, one)
