"""What an engine is told at start: flags, then environment, then the file, then defaults."""

import json
import math
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engines import wire

DEFAULT_CPU_WORKERS = 2  # as the hosted platform does when no GPU worker is configured
MOST_CPU_WORKERS = 256
FILE_KEYS = {"name", "api_url", "api_key", "state_dir", "engine_id", "grace", "heartbeat_seconds", "workers"}


class ConfigError(Exception):
    """The engine cannot start with what it was given. The text says what to change."""


class ApiKey:
    """The API key in memory. It prints as dots; `reveal()` is easy to grep for."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "ApiKey(••••)"

    def __reduce__(self) -> Any:
        raise TypeError("an API key is not pickled")


@dataclass(frozen=True)
class Workers:
    """One worker for each entry of `gpus` (it may hold several), plus `cpus` CPU workers."""

    cpus: int
    gpus: tuple[tuple[int, ...], ...] = ()

    def on_the_wire(self) -> dict[str, Any]:
        return {"gpu": [{"gpus": list(gpus)} for gpus in self.gpus], "cpu": {"count": self.cpus}}


@dataclass(frozen=True)
class Config:
    name: str
    api_url: str
    api_key: ApiKey
    state_dir: Path
    workers: Workers
    engine_id: str = ""  # to register with while none is saved; "" lets the API choose
    grace: float | None = None  # seconds; None waits for running tasks however long they take
    heartbeat_seconds: float = wire.HEARTBEAT_SECONDS

    @property
    def socket_url(self) -> str:
        return "ws" + self.api_url.removeprefix("http")

    @property
    def local(self) -> bool:
        """Whether the API is on this host: then no proxy of the environment has a say."""
        return is_loopback(urlsplit(self.api_url).hostname or "")

    def shown(self) -> dict[str, Any]:
        """The effective configuration for a person to read, the key left out."""
        return {
            "name": self.name,
            "api_url": self.api_url,
            "api_key": "•••• (set)",
            "engine_id": self.engine_id,
            "state_dir": str(self.state_dir),
            "grace": self.grace,
            "heartbeat_seconds": self.heartbeat_seconds,
            "workers": self.workers.on_the_wire(),
        }


def is_loopback(host: str) -> bool:
    """Whether the name is this host's for itself."""
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d+){3}", host))


def api_address(flags: Mapping[str, str | None]) -> str:
    """The address of the Engines API, for a command that needs no more than that. Raises ConfigError."""
    return _url(flags.get("api_url") or _read(flags.get("config")).get("api_url"))


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the effective configuration. Raises ConfigError with what is missing or wrong."""
    file = _read(flags.get("config"))
    given = {**file, **{name: value for name, value in flags.items() if value is not None}}
    key = flags.get("api_key") or environ.get("INFERENCE_API_KEY") or file.get("api_key")
    if not isinstance(key, str) or not re.fullmatch(r"[!-~]+", key):
        raise ConfigError("no API key: set INFERENCE_API_KEY, or api_key in the configuration file")
    name = _name(given.get("name") or socket.gethostname())
    grace = given.get("grace", environ.get("ENGINE_GRACE"))
    heartbeat = _seconds("heartbeat_seconds", given.get("heartbeat_seconds", wire.HEARTBEAT_SECONDS))
    return Config(
        name=name,
        api_url=_url(given.get("api_url")),
        api_key=ApiKey(key),
        state_dir=Path(given.get("state_dir") or _state_home(environ) / _folder(name)).expanduser(),
        workers=_workers(given.get("workers", {})),
        engine_id=_id(flags.get("engine_id") or environ.get("ENGINE_ID") or file.get("engine_id") or ""),
        grace=None if grace is None else _seconds("grace", grace),
        # The other side calls an engine dead by this rhythm, so it may only be quicker.
        heartbeat_seconds=min(max(heartbeat, 0.05), wire.HEARTBEAT_SECONDS),
    )


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
        file = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
    if not isinstance(file, dict):
        raise ConfigError(f"the configuration file {path} is not a table of settings")
    if unknown := sorted(set(file) - FILE_KEYS):
        raise ConfigError(f"the configuration file {path} has settings unknown here: {', '.join(unknown)}")
    return file


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.strip()) <= 100:
        raise ConfigError("the name must be 1 to 100 printable characters")
    return value.strip()


def _id(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{0,100}", value):
        raise ConfigError("the engine's id may hold letters, digits, _ and -, at most 100")
    return value


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "engine"


def _state_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_STATE_HOME") or "~/.local/state") / "engines-agent"


def _url(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError("no API address: give --api-url, such as https://api.example.com")
    try:
        parts = urlsplit(value)
        sane = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sane = False
    if not sane or parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("the API address must be http(s)://host[:port][/path], without user or query")
    return value.rstrip("/")


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # anything else is the TypeError below
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{name} must be a number of seconds, 0 or more")
    return seconds


def _workers(given: object) -> Workers:
    given = {} if given is None else given
    if not isinstance(given, dict) or set(given) - {"cpu", "gpu"}:
        raise ConfigError("workers may hold cpu.count and gpu, a list of {gpus: [index, …]}")
    gpus = tuple(_gpus(entry) for entry in given.get("gpu") or [])
    cpu = given.get("cpu") or {}
    count = cpu.get("count", 0 if gpus else DEFAULT_CPU_WORKERS) if isinstance(cpu, dict) else None
    if not isinstance(count, int) or not 0 <= count <= MOST_CPU_WORKERS:
        raise ConfigError(f"workers.cpu.count must be a whole number up to {MOST_CPU_WORKERS}")
    if not count and not gpus:
        raise ConfigError("the engine has no workers: set workers.cpu.count or workers.gpu")
    return Workers(count, gpus)


def _gpus(entry: object) -> tuple[int, ...]:
    indexes = entry.get("gpus") if isinstance(entry, dict) else None
    if not isinstance(indexes, list) or not indexes or not all(isinstance(i, int) and i >= 0 for i in indexes):
        raise ConfigError("each entry of workers.gpu needs gpus, a list of GPU indexes such as [0]")
    return tuple(indexes)
