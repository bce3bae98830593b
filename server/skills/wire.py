"""Skills as messages."""

from portway.server.skills.document import Document
from portway.server.skills.names import FOLDER
from portway.server.skills.store import ActiveSkill, OfferedSkill
from portway.server.skills.types import Skill, SkillFile, SkillSpec
from portway.v1 import run_context_pb2, skill_pb2


def skill_message(skill: Skill) -> skill_pb2.Skill:
    message = skill_pb2.Skill(
        name=skill.name,
        description=skill.description,
        instructions=skill.instructions,
        source=skill.source,
        version=skill.version,
        digest=skill.digest,
        writable=skill.writable,
        revision=skill.revision,
    )
    message.create_time.FromMicroseconds(skill.create_time)
    message.update_time.FromMicroseconds(skill.update_time)
    return message


def planned_message(spec: SkillSpec, digest: str) -> skill_pb2.Skill:
    """A skill that is not there yet."""
    return skill_pb2.Skill(
        name=spec.name,
        description=spec.description,
        instructions=spec.instructions,
        source=spec.source,
        version=spec.version,
        digest=digest,
        writable=spec.writable,
    )


def file_message(file: SkillFile, folder: str = "") -> skill_pb2.SkillFile:
    return skill_pb2.SkillFile(path=folder + file.path, size=file.size, sha256=file.sha256, executable=file.executable)


def active_message(skill: ActiveSkill) -> skill_pb2.ActiveSkill:
    message = skill_pb2.ActiveSkill(name=skill.name, digest=skill.digest, writable=skill.writable)
    message.activate_time.FromMicroseconds(skill.activate_time)
    return message


def document_of(message: skill_pb2.Skill) -> Document:
    return Document(message.name, message.description, message.version, message.instructions)


def offered_message(skill: OfferedSkill, has_box: bool) -> run_context_pb2.SkillResource:
    """As a run sees it; `path` is where its files lie in the sandbox while it is active."""
    return run_context_pb2.SkillResource(
        name=skill.name,
        description=skill.description,
        path=f"{FOLDER}/{skill.name}" if has_box else "",
        digest=skill.digest,
        active=skill.active,
    )
