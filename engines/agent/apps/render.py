"""Draws a picture, pixel by pixel in plain Python, and returns it as a PNG."""

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Any

from engines.agent.apps.given import BadInput, Given
from engines.agent.apps.report import Report

LARGEST_PNG = 500_000  # bytes; with base64 it must still fit one frame of the socket

Pixel = Callable[[float, float], tuple[int, int, int]]  # x and y from -1 to 1, red green blue


def run(given: Given, report: Report) -> dict[str, Any]:
    scene = given.one_of("scene", ("mandelbrot", "gradient"), default="mandelbrot")
    width = given.whole("width", least=8, most=2048, default=320)
    height = given.whole("height", least=8, most=2048, default=240)
    iterations = given.whole("iterations", least=1, most=10_000, default=100)
    zoom = given.number("zoom", least=0.1, most=1e12, default=1)
    x = given.number("x", least=-2, most=2, default=-0.6)
    y = given.number("y", least=-2, most=2, default=0)
    given.finish()
    pixel = gradient if scene == "gradient" else mandelbrot(complex(x, y), zoom, iterations)
    image = png(width, height, rows(width, height, pixel, report))
    if len(image) > LARGEST_PNG:
        raise BadInput(f"the picture came to {len(image)} bytes, {LARGEST_PNG} fit: ask for a smaller one")
    return {
        "png_base64": base64.b64encode(image).decode(),
        "width": width,
        "height": height,
        "bytes": len(image),
        "sha256": hashlib.sha256(image).hexdigest(),
    }


def gradient(x: float, y: float) -> tuple[int, int, int]:
    return int(127.5 * (x + 1)), int(127.5 * (y + 1)), 160


def mandelbrot(centre: complex, zoom: float, iterations: int) -> Pixel:
    def pixel(x: float, y: float) -> tuple[int, int, int]:
        c = centre + complex(x * 1.5, y * 1.5) / zoom
        z = 0j
        for turn in range(iterations):
            if abs(z) > 2:
                shade = int(255 * turn / iterations)
                return (shade * 3) % 256, (shade * 7) % 256, 255 - shade
            z = z * z + c
        return 0, 0, 0

    return pixel


def rows(width: int, height: int, pixel: Pixel, report: Report) -> bytes:
    """The raw lines of a PNG: a filter byte, then three bytes a pixel."""
    lines = bytearray()
    wide, high = max(1.0, width / height), max(1.0, height / width)
    for row in range(height):
        y = high * (2 * row / (height - 1) - 1)
        lines.append(0)
        for column in range(width):
            lines += bytes(_bounded(pixel(wide * (2 * column / (width - 1) - 1), y)))
        report.progress((row + 1) / height, f"line {row + 1} of {height}")
    return bytes(lines)


def _bounded(colour: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(min(max(part, 0), 255) for part in colour)


def png(width: int, height: int, lines: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, true colour
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
