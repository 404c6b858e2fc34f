"""The script that a rented machine runs once: it installs the engine and keeps it running under systemd."""

import base64
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from engines.controlplane.providers.base import Launch, Refused

INSTALL = (Path(__file__).parent / "install.py").read_text(encoding="utf-8")

# Run again (some clouds do so at each boot), it ends in the same state. INSTALL_ROOT is for trying it elsewhere.
SCRIPT = r"""#!/bin/bash
set -euo pipefail
umask 077
[ "$(id -u)" = 0 ] || exec sudo -n -- "$BASH" "${BASH_SOURCE[0]}"
root="${INSTALL_ROOT:-}"
etc="$root/etc/inferencesh-engine"
opt="$root/opt/inferencesh-engine"
user=inferencesh

api_url=@api_url@
manifest_url=@manifest_url@

newest_python() {
    for candidate in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

if ! python="$(newest_python)"; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3.11
    python="$(newest_python)"
fi

id -u "$user" >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
mkdir -p "$etc" "$opt" "$root/etc/systemd/system"
chmod 0755 "$etc" "$opt"
chown "$user" "$opt"  # an update puts a new file there

# systemd reads it as root; the engine gets the variable, and nobody else may read the file.
cat >"$etc/key.env.new" <<'@eof@'
INFERENCE_API_KEY=@key@
@eof@
chmod 0600 "$etc/key.env.new"
mv -f "$etc/key.env.new" "$etc/key.env"

# One worker for each GPU; without GPUs the engine's default holds.
gpus="$( (nvidia-smi -L 2>/dev/null || true) | grep -c '^GPU ' || true)"
workers='{}'
if [ "$gpus" -gt 0 ]; then
    workers="{\"workers\": {\"gpu\": [$(seq -s, 0 $((gpus - 1)) | sed 's/[0-9]\+/{"gpus": [&]}/g')]}}"
fi
printf '%s\n' "$workers" >"$etc/engine.json"
chmod 0644 "$etc/engine.json"

installer="$(mktemp)"
trap 'rm -f "$installer"' EXIT
cat >"$installer" <<'@eof@'
@install@
@eof@
for wait in 1 2 5 10 30 60 0; do
    "$python" "$installer" "$manifest_url" "$opt/engine" && break
    [ "$wait" = 0 ] && exit 1
    sleep "$wait"
done
chown "$user" "$opt/engine"

cat >"$root/etc/systemd/system/inferencesh-engine.service" <<@eof@
[Unit]
Description=Inference engine
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User=$user
EnvironmentFile=/etc/inferencesh-engine/key.env
ExecStart=$python /opt/inferencesh-engine/engine serve @flags@
StateDirectory=inferencesh-engine
StateDirectoryMode=0700
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
KillMode=mixed
TimeoutStopSec=30
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
@eof@
chmod 0644 "$root/etc/systemd/system/inferencesh-engine.service"
systemctl daemon-reload
systemctl enable --now inferencesh-engine.service
"""


def script(launch: Launch) -> str:
    """Return the script. It holds the key. Raises Refused for what no machine could start with."""
    if not re.fullmatch(r"[!-~]+", launch.api_key):
        raise Refused("The engine's key has characters that no key has; nothing was ordered.")
    if urlsplit(launch.api_url).scheme not in ("http", "https"):
        raise Refused("The API's address must begin with https:// for a machine to reach it; nothing was ordered.")
    api_url = launch.api_url.rstrip("/")
    flags = {
        "--api-url": api_url,
        "--name": launch.engine_name,
        "--engine-id": launch.engine_id,
        "--state-dir": "/var/lib/inferencesh-engine",
        "--config": "/etc/inferencesh-engine/engine.json",
    }
    parts = {
        "api_url": shlex.quote(api_url),
        "manifest_url": shlex.quote(f"{api_url}/dist/engine/manifest.json"),
        "key": _quoted(launch.api_key),
        "install": INSTALL.rstrip("\n"),
        "flags": " ".join(_shell_safe(_argument(f"{flag}={value}")) for flag, value in flags.items()),
        "eof": "END_OF_FILE_e2c1",
    }
    # In one pass, so that nothing in a name is taken for a place to fill in.
    return re.sub(r"@([a-z_]+)@", lambda place: parts[place[1]], SCRIPT)


def configuration(launch: Launch) -> dict[str, object]:
    """Return the launch_configuration of an order. It holds the key."""
    encoded = base64.b64encode(script(launch).encode()).decode()
    return {"type": "script", "script_configuration": {"base64_script": encoded}}


def _quoted(value: str) -> str:
    """As one value of a systemd environment file."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def _argument(value: str) -> str:
    """As one word of a unit's ExecStart, whatever people call their engines. Control characters have no place there."""
    printable = "".join(character for character in value if character.isprintable())
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


def _shell_safe(text: str) -> str:
    """For a here-document that expands variables."""
    return re.sub(r"([\\`$])", r"\\\1", text)
