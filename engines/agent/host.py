"""What this host is, read from the host itself. Bytes, percent 0 to 100, degrees Celsius."""

import csv
import os
import platform
import re
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

from engines.agent.version import VERSION

GPU_FIELDS = "index,uuid,name,driver_version,memory.used,memory.total,temperature.gpu"
NVIDIA_SMI_SECONDS = 5.0
DISKLESS = ("proc", "sysfs", "tmpfs", "devtmpfs", "overlay", "squashfs", "cgroup", "cgroup2")


def system_info() -> dict[str, Any]:
    """The contract's SystemInfo of this host. Blocks for up to 5 s where there is an nvidia-smi."""
    return {
        "hostname": socket.gethostname(),
        "engine_version": VERSION,
        "ipv4": _address(socket.AF_INET, "192.0.2.1"),
        "ipv6": _address(socket.AF_INET6, "2001:db8::1"),
        "mac_address": ":".join(re.findall("..", f"{uuid.getnode():012x}")),
        "os": _os(),
        "docker": _docker(),
        "cpus": _cpus(),
        "ram": _ram(),
        "volumes": _volumes(),
        "gpus": _gpus(),
    }


def _address(family: int, beyond: str) -> str:
    """The address this host would speak from. Connecting a datagram socket sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _os() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name} ({platform.system()} {platform.release()} {platform.machine()})"


def _docker() -> dict[str, Any]:
    binary, path = shutil.which("docker") or "", "/var/run/docker.sock"
    return {
        "binary_path": binary,
        "installed": bool(binary),
        "socket_path": path,
        "socket_available": os.access(path, os.R_OK | os.W_OK),
    }


def _cpus() -> list[dict[str, Any]]:
    """One entry for each CPU package. `cores` counts what the system schedules on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [{"name": platform.processor(), "cores": os.cpu_count() or 1}]
    packages: dict[str, dict[str, Any]] = {}
    for block in text.strip().split("\n\n"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.split("\n"))}
        package = packages.setdefault(fields.get("physical id", "0"), _cpu(fields))
        package["cores"] += 1
    return list(packages.values())


def _cpu(fields: dict[str, str]) -> dict[str, Any]:
    return {
        "name": fields.get("model name", platform.machine()),
        "vendor_id": fields.get("vendor_id", ""),
        "family": fields.get("cpu family", ""),
        "model": fields.get("model", ""),
        "cores": 0,
        "frequency": f"{fields['cpu MHz']} MHz" if "cpu MHz" in fields else "",
    }


def _ram() -> dict[str, Any]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return {}
    kib = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    total, free, available = (kib.get(key, 0) * 1024 for key in ("MemTotal", "MemFree", "MemAvailable"))
    swap, swap_free = (kib.get(key, 0) * 1024 for key in ("SwapTotal", "SwapFree"))
    return {
        "total": total,
        "available": available,
        "used": total - available,
        "free": free,
        "usage": _percent(total - available, total),
        "swap_total": swap,
        "swap_used": swap - swap_free,
        "swap_free": swap_free,
        "swap_usage": _percent(swap - swap_free, swap),
    }


def _volumes() -> list[dict[str, Any]]:
    volumes: dict[str, dict[str, Any]] = {}
    for device, point in _mounts():
        try:
            disk = shutil.disk_usage(point)
        except OSError:
            continue
        usage = _percent(disk.used, disk.total)
        # Bind mounts show a device again and again; its first mount is the one people know.
        volumes.setdefault(
            device, {"name": point, "size": disk.total, "used": disk.used, "free": disk.free, "usage": usage}
        )
    return list(volumes.values())


def _mounts() -> list[tuple[str, str]]:
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return [("/", "/")]
    found = [(row[0], row[1]) for row in rows if row[0].startswith("/dev/") and row[2] not in DISKLESS]
    return found or [("/", "/")]


def _gpus() -> list[dict[str, Any]]:
    if not (binary := shutil.which("nvidia-smi")):
        return []
    command = [binary, f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> list[dict[str, Any]]:
    """Read nvidia-smi's CSV of GPU_FIELDS; it counts memory in MiB. A line it cannot read is left out."""
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != len(GPU_FIELDS.split(",")) or not row[0].isdigit():
            continue
        index, gpu_id, name, driver, used, total, degrees = row
        gpus.append(
            {
                "id": gpu_id,
                "index": int(index),
                "name": name,
                "driver_version": driver,
                "memory_used": _whole(used) * 1024**2,
                "memory_total": _whole(total) * 1024**2,
                "temperature": _whole(degrees),
            }
        )
    return gpus


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0  # some cards answer [N/A]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
