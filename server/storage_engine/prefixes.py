"""Keys that begin with a prefix, as a range that an index can walk."""

_LAST = "\U0010ffff"


def prefix_end(prefix: str) -> str:
    """The smallest text above every text that begins with `prefix`; '' when there is none (an empty prefix)."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return ""
    following = ord(stem[-1]) + 1
    # The surrogates are not characters.
    return stem[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
