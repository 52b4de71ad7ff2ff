"""Secrets of this process, and text without them."""

_SECRETS: set[str] = set()
HIDDEN = "…"


def learn(secrets: list[str]) -> None:
    """From here on, none of these is shown, logged or journaled."""
    _SECRETS.update(secrets)


def redact(text: str) -> str:
    """The text with every known secret replaced, the longest first."""
    for secret in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
