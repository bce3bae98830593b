"""What people are told when no answer comes. An agent may have its own words; these are the host's."""

from collections.abc import Mapping
from enum import StrEnum

from portway.server.agents.types import AgentSpec


class Situation(StrEnum):
    """Why no answer comes."""

    FAILED = "failed"
    INTERRUPTED = "interrupted"
    EFFECT_LOST = "effect_lost"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    WAITING = "waiting"


_TEXTS: Mapping[str, Mapping[Situation, str]] = {
    "en": {
        Situation.FAILED: "Sorry, something went wrong and there is no answer. Please try again later.",
        Situation.INTERRUPTED: "Sorry, the answer was interrupted and could not be begun again. Please ask again.",
        Situation.EFFECT_LOST: (
            "Sorry, the answer was interrupted while a command ran. It may have run, its result is lost, and it was "
            "not run again. Please check before you ask again."
        ),
        Situation.CANCELLED: "Stopped.",
        Situation.WAITING: "A person has to approve a step before this goes on.",
    },
    "zh": {
        Situation.FAILED: "抱歉，出了点问题，没有得到回答。请稍后再试。",
        Situation.INTERRUPTED: "抱歉，回答被中断，无法重新开始。请再问一次。",
        Situation.EFFECT_LOST: (
            "抱歉，回答在命令执行时被中断。命令可能已经执行，结果已丢失，且未再次执行。请先检查再提问。"
        ),
        Situation.CANCELLED: "已停止。",
        Situation.WAITING: "需要有人批准一个步骤后才能继续。",
    },
}


def notice_text(spec: AgentSpec | None, situation: Situation) -> str:
    """The agent's own text in its language, then in English, then the host's; '' where neither has one: the host
    itself says nothing to who is refused."""
    locale = spec.locale if spec and spec.locale else "en"
    own: Mapping[str, str] = {}
    if spec is not None:
        if situation is Situation.FAILED:
            own = spec.notices.failed
        elif situation in (Situation.INTERRUPTED, Situation.EFFECT_LOST):
            own = spec.notices.interrupted
        else:
            own = getattr(spec.notices, situation.value)
    for tag in (locale, locale.split("-")[0], "en"):
        if own.get(tag):
            return own[tag]
    texts = _TEXTS.get(locale) or _TEXTS.get(locale.split("-")[0]) or _TEXTS["en"]
    return texts.get(situation, "")
