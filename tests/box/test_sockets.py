"""Sockets inside a session, served by a caller: who reaches them, what crosses them, and when they go."""

import asyncio
from typing import Any

import pytest

from portway.clients.sockets.handling import relay
from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Conflict, InvalidInput, LimitExceeded, NotFound, Reason, Stale
from portway.v1 import box_pb2, process_pb2, session_pb2
from portway.v1 import socket_pb2 as pb
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, new_session, seconds, until_said
from tests.box.serving import RawOwner, calls, echo, owner_of
from tests.waiting import until, until_told

NAME, PATH = "models", "/run/portway/models.sock"
SAY_WORDS = "c.sendall(b'words'); c.shutdown(1); print(all_of(c))"


async def served_in(channel: PortwayChannel, session_id: str) -> list[pb.Socket]:
    page = await ask(channel, pb.ListSocketsRequest(session_id=session_id))
    return list(page.sockets)


async def nothing_is_served(inside: Inside) -> bool:
    return await served_in(inside.channel, inside.session_id) == []


async def test_commands_started_before_and_after_reach_the_owner_by_path_and_port(
    box: BoxProcess, inside: Inside
) -> None:
    await inside.write("/workspace/call.py", calls(PATH, SAY_WORDS).encode())
    before = await begin(inside, "echo waiting; read x; exec python3 call.py")
    await until_said(before, b"waiting")
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, echo, port=0) as served:
        assert served.place.path == PATH
        await before.write(process_pb2.ExecRequest(stdin=b"\n"))
        await until_said(before, b"b'words'")
        for where in (PATH, served.place.port):
            assert (await inside.python(calls(where, SAY_WORDS))).stdout == "b'words'\n"
        listed = (await served_in(inside.channel, inside.session_id))[0]
        assert (listed.name, listed.path, listed.port) == (NAME, PATH, served.place.port)
        assert (listed.total_connection_count, listed.received_bytes, listed.sent_bytes) == (3, 15, 15)
    await until_told(lambda: nothing_is_served(inside))
    assert (await inside.attempt(f"test -e {PATH} || echo gone")).stdout == "gone\n"


async def test_other_sessions_have_neither_the_path_nor_the_port(box: BoxProcess, inside: Inside) -> None:
    other = await new_session(inside.channel)
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, echo, port=0) as served:
        for where, error in ((PATH, "FileNotFoundError"), (served.place.port, "ConnectionRefusedError")):
            assert error in (await other.python(calls(where, SAY_WORDS))).stderr
    await other.delete()


TRICKS = [
    f"rm -f {PATH}",
    f"unlink {PATH}",
    f"mv {PATH} /run/portway/other.sock",
    "mv /run/portway /run/elsewhere",
    f"chmod 000 {PATH}",
    f"chown 1000 {PATH}",
    f"ln -sf /workspace/mine {PATH}",
    "mount -t tmpfs none /run/portway",
    f"python3 -c \"import socket; socket.socket(1).bind('{PATH}')\"",
    "python3 -c \"import socket; socket.socket(1).bind('/run/portway/new.sock')\"",
    f"echo x > {PATH}",
    "mkdir /run/portway/folder",
    f"python3 -c \"import os; os.rename('{PATH}', '/workspace/mine')\"",
]


@pytest.mark.parametrize("spec", [{}, {"read_only_root": False}])
async def test_a_command_can_neither_remove_nor_replace_a_socket(box: BoxProcess, spec: dict[str, Any]) -> None:
    async with owner_of(box) as owner:
        inside = await new_session(owner._channel, **spec)
        async with owner.serve_socket(inside.session_id, NAME, echo):
            for trick in TRICKS:
                tried = await inside.attempt(f"touch /workspace/mine; {trick} 2>&1 && echo DONE")
                assert "DONE" not in tried.stdout, (trick, tried)
            found = await inside.attempt(f"ls /run/portway; test -S {PATH} && echo there")
            assert found.stdout == "models.sock\nthere\n"
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
        await inside.delete()


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../x", "A", "a.b", "x" * 49, "-a", "a\0b", "a\n", "é", " a"])
async def test_names_with_tricks_are_refused(box: BoxProcess, inside: Inside, name: str) -> None:
    async with owner_of(box) as owner:
        with pytest.raises(InvalidInput) as refused:
            async with owner.serve_socket(inside.session_id, name, echo):
                pass
        assert refused.value.fields[0].field == "listen.name"


async def test_a_newer_owner_has_the_name_at_once_and_the_old_ones_end_takes_nothing_from_it(
    box: BoxProcess, inside: Inside
) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"old")
        await reader.read()

    async with owner_of(box) as owner, owner_of(box) as again:
        async with owner.serve_socket(inside.session_id, NAME, old, generation=7, port=0) as first:
            body = "print(c.recv(3), flush=True)\ntry: c.recv(3)\nexcept ConnectionResetError: print('reset')"
            await inside.write("/workspace/call.py", calls(first.place.port, body).encode())
            program = await begin(inside, "exec python3 call.py")
            await until_said(program, b"b'old'")
            for generation in (0, 6, 7):
                with pytest.raises(Conflict):
                    async with again.serve_socket(inside.session_id, NAME, echo, generation=generation):
                        pass
            port = first.place.port
            async with again.serve_socket(inside.session_id, NAME, echo, generation=8, port=port) as second:
                with pytest.raises(Stale) as replaced:
                    await first.ended()
                assert replaced.value.reason == Reason.OLD_EPOCH
                await until_said(program, b"reset")
                assert second.place == first.place
                assert (await inside.python(calls(port, SAY_WORDS))).stdout == "b'words'\n"
                listed = await served_in(inside.channel, inside.session_id)
                assert [one.generation for one in listed] == [8]


async def test_a_direction_can_end_before_the_other(box: BoxProcess, inside: Inside) -> None:
    async def answers_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(b"you said " + asked)
        writer.write_eof()
        assert await reader.read() == b""

    async def speaks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all I have")
        writer.write_eof()
        heard.append(await reader.read())

    heard: list[bytes] = []
    async with owner_of(box) as owner:
        async with owner.serve_socket(inside.session_id, NAME, answers_late, port=0) as served:
            for where in (PATH, served.place.port):
                assert (await inside.python(calls(where, SAY_WORDS))).stdout == "b'you said words'\n"
        async with owner.serve_socket(inside.session_id, "first", speaks_first, port=0) as served:
            body = "print(all_of(c)); c.sendall(b'thanks'); c.close()"
            for where in (served.place.path, served.place.port):
                assert (await inside.python(calls(where, body))).stdout == "b'all I have'\n"
            await until(lambda: len(heard) == 2)
            assert heard == [b"thanks"] * 2


async def test_much_crosses_in_both_directions_unharmed(box: BoxProcess, inside: Inside) -> None:
    body = """
import hashlib, threading
block = bytes(range(256)) * 4096
def say():
    for _ in range(24):
        c.sendall(block)
    c.shutdown(1)
threading.Thread(target=say).start()
heard = all_of(c)
print(len(heard), hashlib.sha256(heard).hexdigest() == hashlib.sha256(block * 24).hexdigest())
"""
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, echo, port=0) as served:
        both = await asyncio.gather(*(inside.python(calls(where, body)) for where in (PATH, served.place.port)))
        assert [one.stdout for one in both] == [f"{24 << 20} True\n"] * 2


async def test_a_connection_is_joined_with_any_server_of_the_owner(box: BoxProcess, inside: Inside) -> None:
    async def echo_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)
        writer.close()

    server = await asyncio.start_server(echo_and_close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay((reader, writer), await asyncio.open_connection("127.0.0.1", port))

    async with server, owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, bridge):
        assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"


async def test_a_protocol_serves_as_well_as_a_coroutine(box: BoxProcess, inside: Inside) -> None:
    class Shout(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, Shout):
        assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'WORDS'\n"


async def test_a_handler_that_breaks_resets_its_connection_and_no_other(box: BoxProcess, inside: Inside) -> None:
    async def fragile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(5) == b"break":
            raise ConnectionError("as asked")
        await echo(reader, writer)

    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, fragile, port=0) as served:
        body = "c.sendall(b'break')\ntry: print(c.recv(1))\nexcept ConnectionResetError: print('reset')"
        assert (await inside.python(calls(served.place.port, body))).stdout == "reset\n"
        assert (await inside.python(calls(PATH, body))).stdout in ("reset\n", "b''\n")
        good = "c.sendall(b'hello'); c.sendall(b'words'); c.shutdown(1); print(all_of(c))"
        assert (await inside.python(calls(PATH, good))).stdout == "b'words'\n"


async def test_the_owner_learns_that_a_program_was_killed_in_the_middle(box: BoxProcess, inside: Inside) -> None:
    over: list[Exception | None] = []

    class Watch(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            heard.append(data)

        def connection_lost(self, error: Exception | None) -> None:
            over.append(error)

    heard: list[bytes] = []
    await inside.write("/workspace/call.py", calls(PATH, "c.sendall(b'words'); time.sleep(600)").encode())
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, Watch):
        program = await begin(inside, "exec python3 call.py")
        await until(lambda: heard == [b"words"])
        program.cancel()
        await until(lambda: len(over) == 1)


async def test_frames_that_may_not_come_end_the_socket_and_say_why(box: BoxProcess, inside: Inside) -> None:
    listen = {"listen": pb.SocketListen(session_id=inside.session_id, name="raw")}
    wrong: list[list[dict[str, Any]]] = [
        [{"data": b"x"}],
        [{}],
        [listen, listen],
        [listen, {"credit": -1}],
        [listen, {}],
    ]
    for frames in wrong:
        owner = RawOwner(inside.channel)
        for frame in frames:
            await owner.say(1, **frame)
        error = await owner.end()
        assert isinstance(error, InvalidInput), (frames, error)
    assert await nothing_is_served(inside)


async def test_frames_for_connections_that_are_none_are_dropped(box: BoxProcess, inside: Inside) -> None:
    owner = RawOwner(inside.channel)
    await owner.listen(inside)
    for number in (0, 1, 77, -5, 2**62):
        for kind in (
            {"data": b"x"},
            {"credit": 1},
            {"half_closed": pb.SocketHalfClosed()},
            {"closed": pb.SocketClosed()},
        ):
            await owner.say(number, **kind)
    calling = asyncio.create_task(inside.python(calls("/run/portway/raw.sock", "print(all_of(c))")))
    assert (await owner.hear()).HasField("opened")
    await owner.say(1, data=b"fine")
    await owner.say(1, closed=pb.SocketClosed())
    assert (await calling).stdout == "b'fine'\n"
    owner.call.cancel()


async def test_a_session_has_so_many_sockets(box: BoxProcess, inside: Inside) -> None:
    owners = [RawOwner(inside.channel) for _ in range(8)]
    for number, owner in enumerate(owners):
        await owner.listen(inside, f"s{number}")
    with pytest.raises(LimitExceeded):
        await RawOwner(inside.channel).listen(inside, "one-more")
    told = await ask(inside.channel, box_pb2.ListErrorsRequest(session_id=inside.session_id))
    assert [(error.code, "already has 8 sockets" in error.message) for error in told.errors] == [
        ("SOCKET_REFUSED", True)
    ]
    owners[0].call.cancel()
    await until_told(lambda: _has(inside, 7))
    await RawOwner(inside.channel).listen(inside, "one-more")


async def _has(inside: Inside, count: int) -> bool:
    return len(await served_in(inside.channel, inside.session_id)) == count


async def test_a_port_that_a_command_has_is_refused_and_one_that_is_served_is_not_to_be_had(
    box: BoxProcess, inside: Inside
) -> None:
    holder = "import socket, time\ns = socket.create_server(('127.0.0.1', 8099))\nprint('has it', flush=True)\n"
    holder += "time.sleep(600)"
    await inside.write("/workspace/holder.py", holder.encode())
    taken = await begin(inside, "exec python3 holder.py")
    await until_said(taken, b"has it")
    async with owner_of(box) as owner:
        with pytest.raises(Conflict):
            async with owner.serve_socket(inside.session_id, NAME, echo, port=8099):
                pass
        assert not [one for one in await served_in(inside.channel, inside.session_id)]
        async with owner.serve_socket(inside.session_id, NAME, echo, port=8098):
            steal = "import socket\ns = socket.socket()\ns.setsockopt(1, 15, 1); s.setsockopt(1, 2, 1)\n"
            for address in ("127.0.0.1", "0.0.0.0"):
                tried = await inside.python(f"{steal}s.bind(('{address}', 8098)); s.listen(); print('STOLEN')")
                assert "STOLEN" not in tried.stdout and "Address already in use" in tried.stderr


async def test_a_served_socket_keeps_its_session_and_goes_with_it(box: BoxProcess, channel: PortwayChannel) -> None:
    # Longer than it takes to make a container of the other one.
    ttl = seconds(4.0 if box.has_image else 0.5)
    inside = await new_session(channel, ttl=ttl)
    other = await new_session(channel, ttl=ttl)
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, NAME, echo) as served:
        # The one that nobody uses goes, and with it the proof that time enough has passed.
        await until_told(lambda: _gone(other))
        assert (await inside.sh("echo here")).stdout == "here\n"
        await inside.delete()
        with pytest.raises(NotFound):
            await served.ended()


async def _gone(inside: Inside) -> bool:
    page = await ask(inside.channel, session_pb2.ListSessionsRequest(page_size=200))
    return all(one.session_id != inside.session_id for one in page.sessions)
