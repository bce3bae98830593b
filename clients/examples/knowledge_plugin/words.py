"""Words of texts and questions. Chinese, Japanese and Korean have no spaces: there each pair of characters is one."""

import re
import unicodedata

_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]+|[^\W_]+")
_PAIRED = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]")
MAX_WORDS = 64


def indexed(text: str) -> str:
    """The words of a text, for the index."""
    return " ".join(_words(text))


def searched(query: str) -> str:
    """A question for the index: any of its words, at most 64; '' where it has none."""
    words = list(dict.fromkeys(_words(query)))[:MAX_WORDS]
    return " OR ".join(f'"{word}"' for word in words)


def _words(text: str) -> list[str]:
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _PAIRED.match(word) and len(word) > 1:
            found += [word[start : start + 2] for start in range(len(word) - 1)]
        else:
            found.append(word)
    return found
