"""The frame around every command: where arguments go, how an end becomes an exit code."""

import gc
import os
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from ferrylog.cli.failing import tell
from ferrylog.cli.foreign import replacement
from ferrylog.errors import Usage
from ferrylog.redact import learn, redact
from statemachine.errors import FerrylogError

app = typer.Typer(
    name="ferrylog",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help"]},
)


@app.callback()
def ferrylog() -> None:
    """Move MongoDB collections in journaled chunks: kill it anywhere, resume, prove it."""


COMMANDS: Final = {
    "check": "check",
    "start": "start",
    "dump": "dump",
    "restore": "restore",
    "export": "export",
    "resume": "resume",
    "status": "status",
    "watch": "watch",
    "replay": "replay",
    "verify": "verify",
    "cutover": "cutover",
    "rollback": "rollback",
    "commit": "commit",
    "pause": "pause",
    "stop": "stop",
    "set": "set_",
    "jobs": "",
    "inspect": "",
    "dead-letters": "",
    "rebalance": "rebalance",
    "ops": "",
    "health": "health",
    "cleanup": "cleanup",
}
"""By name: the function in the module of that name; none for a group of commands."""


def learn_commands(named: str) -> None:
    """Register the command of that name, or all of them when it is none: looking at a journal
    shall not wait for what reaches servers. What was loaded stays: the collector neither looks
    for garbage in it meanwhile, which took a sixth of the time, nor ever again."""
    gc.disable()
    for name in [named] if named in COMMANDS else COMMANDS:
        _learn_command(name)
    gc.freeze()
    gc.enable()


@cache
def _learn_command(name: str) -> None:
    """Once in a process."""
    module = import_module(f"ferrylog.cli.{name.replace('-', '_')}")
    if function := COMMANDS[name]:
        app.command(name)(getattr(module, function))
    else:
        app.add_typer(module.app, name=name)


GLOBAL: Final = {"--journal": 1, "--config": 1, "--json": 0, "--verbose": 0, "-v": 0, "--quiet": 0}
"""Options that may stand before the command, and how many values each takes."""


def program() -> NoReturn:
    """`main`, and then the end of the process at once: an interpreter that ends waits half a second
    for the driver's threads, though every client is closed by now."""
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def main() -> NoReturn:
    """The command, to its `SystemExit`."""
    arguments = sys.argv[1:]
    _learn_secrets(arguments)
    try:
        arguments, file = _settings_file(_archive_named(_globals_last(arguments)))
        learn_commands("" if file or not arguments else arguments[0])
        config = _defaults(file) if file else {}
        code = app(arguments, standalone_mode=False, default_map=config)
        sys.exit(code if isinstance(code, int) else 0)
    except FerrylogError as error:
        tell(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _usage_or_bug(error)


def _learn_secrets(arguments: list[str]) -> None:
    """Whatever looks like a connection string, wherever it was typed, is never repeated."""
    ours = ("FERRYLOG_", "MONGO_")
    given = [value for name, value in os.environ.items() if name.startswith(ours)]
    for text in (*arguments, *given):
        if "://" in text:
            from executors.clients import secrets_of  # noqa: PLC0415 — most commands need none

            learn(secrets_of(text.partition("=")[2] if text.startswith("--") else text))


def _globals_last(arguments: list[str]) -> list[str]:
    """Move global options that stand before the command behind it."""
    at = 0
    while at < len(arguments) and arguments[at].partition("=")[0] in GLOBAL:
        name, equals, _ = arguments[at].partition("=")
        at += 1 if equals else 1 + GLOBAL[name]
    return arguments[at:] + arguments[:at]


def _archive_named(arguments: list[str]) -> list[str]:
    """Theirs takes `--archive` alone for a standard stream."""
    named: list[str] = []
    for at, argument in enumerate(arguments):
        named.append(argument)
        follows = arguments[at + 1] if at + 1 < len(arguments) else "--"
        if argument == "--archive" and follows.startswith("-") and follows != "-":
            named.append("-")
    return named


def _settings_file(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Take `--config FILE` out; the file's keys are option names, at the top or per command."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config":
            end = at + 1 if equals else at + 2
            file = Path(value if equals else "".join(arguments[at + 1 : end]))
            return arguments[:at] + arguments[end:], file
    return arguments, None


def _defaults(file: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 — most commands read no file

    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Usage(f"cannot use {file}: {error}", remedy="write a TOML file") from None
    group = typer.main.get_command(app)
    defaults, unknown = _for_commands(group, content)
    if unknown:
        raise Usage(f"{file} names unknown settings: {', '.join(sorted(unknown))}")
    return defaults


def _for_commands(group: Any, content: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Defaults for each command from the shared keys and its own table; and the keys that no
    command knows."""
    shared = {_name(key): value for key, value in content.items() if not isinstance(value, dict)}
    unknown = set(shared) | {key for key, value in content.items() if isinstance(value, dict)}
    defaults: dict[str, Any] = {}
    for name, command in group.commands.items():
        own = content.get(name, {})
        if hasattr(command, "commands"):
            defaults[name], strange = _for_commands(command, {**shared, **own})
            known = {parameter.name for parameter in command.params}
            defaults[name] |= {key: value for key, value in shared.items() if key in known}
            unknown = (unknown - known - {name}) & (strange | set(content) - set(shared))
            continue
        known = {parameter.name for parameter in command.params}
        mine = {_name(key): value for key, value in own.items()}
        defaults[name] = {**{k: v for k, v in shared.items() if k in known}, **mine}
        for each in command.params:  # one of many may stand without brackets
            if each.multiple and isinstance(defaults[name].get(each.name), str):
                defaults[name][each.name] = [defaults[name][each.name]]
        unknown = (unknown - known - {name}) | (set(mine) - known)
    return defaults, unknown


def _name(key: str) -> str:
    return key.replace("-", "_")


def _usage_or_bug(error: Exception) -> NoReturn:
    """The parser's own errors are the operator's; everything else that comes here is ours."""
    shown = getattr(error, "format_message", None)
    if shown is not None:
        instead = replacement(getattr(error, "option_name", "")) or "see `ferrylog --help`"
        sys.stderr.write(redact(f"error [EUSE001]: {shown()}\n  → {instead}\n"))
        sys.exit(2)
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"  {Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames[-8:]]
    text = f"bug [EBUG000]: {type(error).__name__}: {error}"
    sys.stderr.write(redact("\n".join([text, *places])) + "\n")
    sys.stderr.write("  → nothing that was journaled is lost; `ferrylog resume` goes on\n")
    sys.exit(70)
