"""The whole of Portway on PostgreSQL, as a person starts it: a conversation, a kill, a restart, and nothing is gone."""

import asyncio
from pathlib import Path

from tests.e2e.stack import Stack, started
from tests.postgres import PostgresServer


async def history(stack: Stack) -> list[str]:
    async with stack.client() as host:
        return [item.content for item in (await host.history("talk")).items]


async def test_a_conversation_outlives_a_kill_and_a_restart(
    postgres: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    url = postgres.tcp_url(postgres_database)
    async with started(tmp_path, HOST__DATABASE=url) as stack:
        first = await stack.portway("send", "one, two", "--conversation", "talk", "--wait")
        assert first.code == 0 and "one, two" in first.out, first.err
        said = await history(stack)
        assert len(said) == 2
        old = await stack.kill("host")
        await stack.restarted("host", old)
        assert await history(stack) == said
        second = await stack.portway("send", "three", "--conversation", "talk", "--wait")
        assert second.code == 0 and "three" in second.out, second.err
        said = await history(stack)
        assert len(said) == 4
        status = await stack.portway("status")
        # The web chat comes back in its own time.
        for _ in range(30):
            if status.code:
                status = await stack.portway("status")
        assert status.code == 0, status.out + status.err
        parts = await stack.portway("status", "--json")
        assert f"postgresql://portway@127.0.0.1:{postgres.port}/{postgres_database}" in parts.out
    async with started(tmp_path, HOST__DATABASE=url) as stack:
        assert await history(stack) == said
    log = (tmp_path / "up.log").read_text(encoding="utf-8")
    assert '"epoch": 3' in log
    for secret in ("p%40ss", "p@ss"):
        assert secret not in log + status.out + parts.out
    # The database is the server's; blobs, keys and credentials lie in the data folder as ever.
    kept = await asyncio.to_thread(lambda: {path.name for path in tmp_path.rglob("*")})
    assert "portway.db" not in kept
    assert "keys.json" in kept


async def test_a_second_installation_on_the_same_database_is_refused_with_a_reason(
    postgres: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    url = postgres.url(postgres_database)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with started(first, HOST__DATABASE=url) as stack:
        try:
            async with started(second, HOST__DATABASE=url):
                raise AssertionError("two hosts serve one database")
        except AssertionError as refused:
            assert "in use by another Portway host" in str(refused)
        again = await stack.portway("send", "still here", "--wait")
        assert again.code == 0, again.err
