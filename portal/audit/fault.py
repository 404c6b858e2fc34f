"""What a check found."""

from dataclasses import dataclass

START = "0" * 64  # the hash before the first entry


@dataclass(frozen=True)
class Fault:
    """`number` is the first entry that is wrong, missing or not vouched for."""

    number: int
    words: str
