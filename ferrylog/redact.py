"""Secrets of this process, and text without them."""

import json

_SECRETS: set[str] = set()
HIDDEN = "…"


_CONTROLS = {
    **{
        code: f"\\x{code:02x}"
        for code in (*range(0x20), *range(0x7F, 0xA0))
        if chr(code) not in "\n\t"
    },
    # Line separators, and what turns the direction of the text that follows.
    **{
        code: f"\\u{code:04x}"
        for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    },
    **{code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)},  # halves of a character
}


def printable(text: str) -> str:
    """Names come from servers and may hold what commands a terminal: shown, not obeyed."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def ascii_json(value: object) -> str:
    """JSON of plain ASCII: nothing in it commands a terminal, and every reader takes it."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def learn(secrets: list[str]) -> None:
    """From here on, none of these is shown, logged or journaled."""
    _SECRETS.update(secrets)


def redact(text: str) -> str:
    """The text with every known secret replaced, the longest first."""
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
