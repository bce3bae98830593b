"""`portway apply` and `portway export` against a whole installation."""

import os
from pathlib import Path

from tests.e2e.stack import Outcome, Stack, command, started

DECLARED = """\
kind: User
user_id: grace
name: Grace
role: ROLE_MEMBER
actor_ids: ['telegram:42']
---
kind: Agent
agent_id: helper
name: helper
runner_id: plugin:portway/local-agent/default
timeout: 120s
config: {prompt: [{role: system, content: Be brief.}]}
---
kind: Binding
binding_id: helper-chats
scope: BINDING_SCOPE_CHANNEL
scope_id: helpdesk
agent_id: helper
---
kind: Schedule
schedule_id: morning
name: morning
cron: "0 7 * * 1-5"
time_zone: Europe/Berlin
agent_id: helper
disabled: true
---
kind: KillSwitch
spec:
  kind: SWITCH_KIND_TOOL
  target_id: dangerous
  on: true
  reason: not today
"""


async def portway(stack: Stack, *arguments: str | Path) -> Outcome:
    return await command(stack.environment(), *map(str, arguments))


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def test_what_files_say_is_made_once_changed_and_pruned(tmp_path: Path) -> None:
    file = tmp_path / "portway.yaml"
    file.write_text(DECLARED)
    async with started(tmp_path) as stack:
        dry = await portway(stack, "apply", "--dry-run", file)
        assert (dry.code, "would be made 5" in dry.out) == (0, True), dry
        made = await portway(stack, "apply", file)
        assert (made.code, "made 5, changed 0, removed 0, unchanged 0" in made.out) == (0, True), made
        again = await portway(stack, "apply", file)
        assert (again.code, again.out) == (0, "made 0, changed 0, removed 0, unchanged 5\n"), again
        changed(file, "timeout: 120s", "timeout: 60s")
        differs = await portway(stack, "apply", "--dry-run", file)
        assert "~ Agent helper\n    timeout: '120s' -> '60s'\n" in differs.out
        assert "changed 1" in (await portway(stack, "apply", file)).out
        file.write_text(DECLARED.partition("---\nkind: Schedule")[0].replace("timeout: 120s", "timeout: 60s"))
        kept = await portway(stack, "apply", file)
        assert kept.out == "made 0, changed 0, removed 0, unchanged 3\n"
        gone = await portway(stack, "apply", "--prune", file)
        assert "removed 2" in gone.out, gone
        exported = await portway(stack, "export")
        assert "morning" not in exported.out
        # What the host had before is nobody's to prune.
        assert "agent_id: assistant" in exported.out


async def test_an_export_makes_an_equal_host_of_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "portway.yaml"
    file.write_text(DECLARED)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with started(tmp_path / "one") as stack:
        assert (await portway(stack, "apply", file)).code == 0
        first = await portway(stack, "export", "-o", tmp_path / "first.yaml")
        assert first.code == 0, first
    text = (tmp_path / "first.yaml").read_text()
    assert "actor_ids" in text
    async with started(tmp_path / "two") as stack:
        applied = await portway(stack, "apply", tmp_path / "first.yaml")
        assert applied.code == 0, applied
        assert (await portway(stack, "export", "-o", tmp_path / "second.yaml")).code == 0
    assert (tmp_path / "second.yaml").read_text() == text


async def test_errors_name_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "portway.yaml"
    environment = {**os.environ, "PORTWAY_HOST": "127.0.0.1:1", "PORTWAY_TOKEN": "none"}
    wrong = (
        ("kind: Agent\nagent_id: a\nrunner: x\n", ":3: Agent has no field `runner`; did you mean `runner_id`?"),
        ("kind: Agnet\n", ":1: unknown kind `Agnet`; did you mean `Agent`?"),
        ("kind: Agent\nagent_id: a\nconfig: 5\n", ":3: `config` has a value of the wrong type"),
        (
            "kind: Agent\nagent_id: a\nbox_policy:\n  tolls: []\n",
            ":3: `box_policy` has an unknown field inside (`tolls`)",
        ),
        ("kind: Agent\nagent_id: a\nrevision: 5\n", ":3: `revision` is given by the host"),
        ("kind: Agent\nname: a\n", ":1: Agent needs `agent_id`"),
        ("kind: Agent\nagent_id: a\n---\nkind: Agent\nagent_id: a\n", ":4: Agent a is declared again; first at"),
        ("kind: [\n", "is not valid YAML"),
    )
    for text, told in wrong:
        file.write_text(text)
        outcome = await command(environment, "apply", str(file))
        assert (outcome.code, told in outcome.err) == (2, True), (text, outcome)
    async with started(tmp_path) as stack:
        file.write_text(
            "kind: Agent\nagent_id: a\nname: a\nrunner_id: plugin:portway/local-agent/default\ntimeout: -5s\n"
        )
        refused = await portway(stack, "apply", file)
        assert (refused.code, "portway.yaml:5: timeout" in refused.err) == (2, True), refused
