"""The command line: `python -m engines.agent serve | update | version | config`; a released file takes the same."""

import argparse
import asyncio
import json
import sys

from engines.agent import installed
from engines.agent.config import ConfigError, load
from engines.agent.engine import REFUSED
from engines.agent.serve import serve
from engines.agent.update import command as update
from engines.agent.version import VERSION

COMMANDS = {
    "serve": "run the engine",
    "config": "print the effective configuration, without the key",
    "update": "replace this file by another version; what runs is not touched",
}


def parser() -> argparse.ArgumentParser:
    program = installed.FILE.name if installed.FILE else "python -m engines.agent"
    top = argparse.ArgumentParser(prog=program, description="Runs an inference engine on this host.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("version", help="print the version")
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words)
        command.add_argument("--api-url", help="address of the Engines API")
        command.add_argument("--api-key", help="better given as INFERENCE_API_KEY: flags show in the process list")
        command.add_argument("--name", help="the engine's name (default: the host's)")
        command.add_argument("--engine-id", help="the id to start with where none is saved yet (also ENGINE_ID)")
        command.add_argument("--state-dir", help="default: ~/.local/state/engines-agent/NAME")
        command.add_argument("--config", help="a .toml or .json file with the same settings, and workers")
        command.add_argument(
            "--grace",
            help="seconds that running tasks get after SIGTERM before they are ended "
            "(default: as long as they take; also ENGINE_GRACE)",
        )
        if name == "update":
            command.add_argument("--version", default="stable", help="stable (the default), canary or a tag: v1.2.3")
            command.add_argument("--manifest-base", help="the release tree (default: API-URL/dist/engine)")
    return top


def main() -> int:
    flags = vars(parser().parse_args())
    command = flags.pop("command")
    if command == "version":
        return _print(VERSION)
    if command == "update":
        return update(flags.pop("version"), flags.pop("manifest_base"), flags)
    try:
        config = load(flags)
    except ConfigError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return REFUSED
    if command == "config":
        return _print(json.dumps(config.shown(), indent=2, ensure_ascii=False))
    return asyncio.run(serve(config))


def _print(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
