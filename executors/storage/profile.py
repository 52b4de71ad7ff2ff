"""Keys of a profile in the files of Amazon's own tools, where the environment holds none."""

import os
from configparser import ConfigParser
from configparser import Error as BadFile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from executors.storage.errors import NoCredentials

if TYPE_CHECKING:
    from obstore.store import S3Config

OTHERS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
"""Where one of these is set, credentials come from there."""


def of_profile(url: str) -> "S3Config":
    """Keys and region of `AWS_PROFILE`, or of the default one. Nothing, where the environment holds
    keys, and where there are no such files: then the machine is asked. Raises `NoCredentials` for
    a profile that was named and holds no keys, as those of single sign-on do."""
    if any(each in os.environ for each in OTHERS):
        return {}
    named = os.environ.get("AWS_PROFILE", "")
    name = named or "default"
    secrets = _section("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name, url)
    config = "default" if name == "default" else f"profile {name}"
    settings = _section("AWS_CONFIG_FILE", "~/.aws/config", config, url) | secrets
    if "aws_access_key_id" not in settings or "aws_secret_access_key" not in settings:
        if named:
            raise NoCredentials(
                url,
                f"profile {named!r} holds no keys; `aws configure export-credentials --format env` "
                "makes some of it",
            )
        return {}
    found: S3Config = {
        "access_key_id": settings["aws_access_key_id"],
        "secret_access_key": settings["aws_secret_access_key"],
    }
    if token := settings.get("aws_session_token"):
        found["session_token"] = token
    if "AWS_REGION" not in os.environ and (region := settings.get("region")):
        found["region"] = region
    return found


def _section(variable: str, usual: str, name: str, url: str) -> dict[str, str]:
    path = Path(os.environ.get(variable) or usual).expanduser()
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, "utf-8")
    except (BadFile, ValueError, OSError):  # which would show lines of it
        raise NoCredentials(url, f"{path} cannot be read") from None
    return dict(parser[name]) if parser.has_section(name) else {}
