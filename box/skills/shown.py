"""Skills that a session is to show, and where their files lie."""

from collections.abc import Sequence

from portway.box.backends.types import SkillMount
from portway.box.sessions.types import SessionSkill
from portway.box.skills.store import SkillKey, SkillStore
from portway.rpc.errors import FieldViolation, WrongState


def require_skills(store: SkillStore, workspace_id: str, skills: Sequence[SessionSkill], field: str) -> None:
    """Raises `WrongState` naming each skill whose files are to be put first."""
    missing = [
        FieldViolation(f"{field}[{number}].digest", "is not in this box; put it with PutSkill")
        for number, skill in enumerate(skills)
        if not store.has(SkillKey(workspace_id, skill.digest))
    ]
    if missing:
        names = ", ".join(violation.field for violation in missing)
        raise WrongState(f"the box does not have the files of {names}; put them with PutSkill", fields=missing)


def skill_mounts(store: SkillStore, workspace_id: str, skills: Sequence[SessionSkill]) -> tuple[SkillMount, ...]:
    """Those whose files are here: a session that comes back must not fail for one that is not."""
    mounts = []
    for skill in skills:
        key = SkillKey(workspace_id, skill.digest)
        if store.has(key):
            root = store.root.resolve()
            mounts.append(SkillMount(skill.name, skill.digest, str(root), str(root / key.folder), skill.writable))
    return tuple(mounts)
