"""Puts together what makes a run ready to start."""

from portway.server.agents.config_secrets import ConfigSecrets
from portway.server.agents.directory import AgentDirectory
from portway.server.config import HostConfig
from portway.server.events.place import Places
from portway.server.http.build import ProgramUrls
from portway.server.parts import Stores
from portway.server.runs.prepare import Preparer
from portway.server.runtimes.link import RuntimeLink
from portway.server.skills.build import SkillParts
from portway.server.snapshot.context import ContextWriter, HostFacts
from portway.server.snapshot.grants import GrantBook
from portway.server.workspaces.access import Access


def build_preparer(
    host: HostConfig,
    stores: Stores,
    skills: SkillParts,
    agents: AgentDirectory,
    secrets: ConfigSecrets,
    runtime: RuntimeLink,
    grants: GrantBook,
    facts: HostFacts,
    access: Access,
    programs: ProgramUrls,
) -> Preparer:
    return Preparer(
        runs=stores.runs,
        events=stores.events,
        places=Places(stores.conversations),
        transcript=stores.transcript,
        ledgers=stores.runs,
        state=stores.state,
        skills=skills.store,
        agents=agents,
        secrets=secrets,
        runtime=runtime,
        grants=grants,
        contexts=ContextWriter(facts, stores.cursors),
        switches=access.switches,
        patience=host.limits.runner_patience,
        gateway_url=programs.gateway,
        bridge_url=programs.bridge,
    )
