"""Workspaces, users, tokens, kill switches, erasure and the audit by the real command line."""

import json
from pathlib import Path

from tests.e2e.stack import Outcome, Stack, command, started


async def run(stack: Stack, *arguments: str, code: int = 0) -> Outcome:
    outcome = await stack.portway(*arguments)
    assert outcome.code == code, (arguments, outcome)
    return outcome


async def listed(stack: Stack, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((await run(stack, *arguments, "--json")).out)
    return found


async def test_an_administrator_runs_an_installation_by_the_command_line(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        await _workspaces(stack)
        await _users_and_tokens(stack)
        await _switches(stack)
        await _erasure(stack)
        actions = {str(entry["action"]) for entry in await listed(stack, "audit", "list", "--limit", "200")}
        assert actions >= {"workspace.delete", "user.create", "token.create", "switch.on", "switch.off"}
        refused = await run(stack, "audit", "list", "--refused", "--action", "call.refused")
        assert "call.refused" in refused.out


async def _workspaces(stack: Stack) -> None:
    await run(stack, "workspace", "create", "team", "--name", "The team")
    await run(stack, "workspace", "quota", "team", "--active-runs", "3", "--events-per-minute", "60")
    shown = (await run(stack, "workspace", "show", "team")).json()
    assert shown["quota"]["max_active_runs"] == "3" and shown["quota"]["max_queued_runs"] == "0"  # type: ignore[index]
    token = (await run(stack, "tokens", "create", "t", "--role", "operator", "--workspace", "team")).out.strip()
    environment = stack.environment() | {"PORTWAY_TOKEN": token}
    assert (await command(environment, "user", "list")).code == 0
    await run(stack, "workspace", "disable", "team")
    refused = await command(environment, "user", "list")
    assert refused.code == 1 and "portway workspace enable team" in refused.err
    await run(stack, "workspace", "enable", "team")
    assert (await command(environment, "user", "list")).code == 0
    assert (await command(environment, "workspace", "list")).code == 4
    await run(stack, "workspace", "delete", "team", "--yes")
    assert "team" not in (await run(stack, "workspace", "list")).out
    await run(stack, "workspace", "show", "team", code=3)


async def _users_and_tokens(stack: Stack) -> None:
    await run(stack, "user", "create", "ada", "--role", "operator", "--account", "web:ada")
    made = (await run(stack, "tokens", "create", "hers", "--role", "viewer", "--user", "ada", "--json")).json()
    token_id, secret = made["token"]["token_id"], str(made["secret"])  # type: ignore[index]
    environment = stack.environment() | {"PORTWAY_TOKEN": secret}
    assert (await command(environment, "status")).code in (0, 1)
    rotated = (await run(stack, "tokens", "rotate", str(token_id))).out.strip()
    assert (await command(environment, "status")).code == 4
    environment["PORTWAY_TOKEN"] = rotated
    assert (await command(environment, "user", "list")).code == 0
    await run(stack, "user", "disable", "ada")
    assert (await command(environment, "user", "list")).code == 4
    await run(stack, "user", "enable", "ada")
    assert (await command(environment, "user", "list")).code == 0
    await run(stack, "user", "delete", "ada")
    assert (await command(environment, "user", "list")).code == 4


async def _switches(stack: Stack) -> None:
    await run(stack, "switch", "on", "agent", "assistant", "--reason", "it misbehaves")
    assert "it misbehaves" in (await run(stack, "switch", "list")).out
    await run(stack, "switch", "off", "agent", "assistant")
    assert "assistant" not in (await run(stack, "switch", "list")).out
    wrong = await run(stack, "switch", "on", "planet", "x", code=2)
    assert "agent, bot, model, tool" in wrong.err


async def _erasure(stack: Stack) -> None:
    sent = (await run(stack, "send", "remember xylophonequartz", "--wait", "--json")).json()
    conversation = str(sent["conversation_id"])
    told = await run(stack, "erase", "conversation", conversation, "--yes", "--reason", "asked for")
    assert "erased" in told.out
    assert "xylophonequartz" not in (await stack.portway("history", conversation)).out
    await run(stack, "erase", "user", "nobody", "--yes", code=3)
