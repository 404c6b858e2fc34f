"""New names for many engines from one pattern, in which {name} is the old name and {n} a running number."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engines.models import Engine

LONGEST = 100
FILLED_IN = re.compile(r"\{(name|n)\}")
BRACES = "Only {name} and {n} are filled in. Take other braces out."


@dataclass(frozen=True)
class Names:
    """What each engine would be called, by its key, and what is wrong with that."""

    pattern: str = ""
    new: Mapping[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def forbidden(self) -> str:
        """Why none of it can be done."""
        if self.problems:
            return self.problems[0]
        return "" if self.new else "Enter the new name first."


def by_pattern(engines: list[Engine], pattern: str) -> Names:
    """Return what the engines of one team would be called. The number has as many digits as the last one needs."""
    pattern = pattern.strip()
    if re.search(r"[{}]", FILLED_IN.sub("", pattern)):
        return Names(pattern, problems=[BRACES])
    if not pattern:
        return Names()
    width = len(str(len(engines)))
    new = {}
    for number, engine in enumerate(engines, 1):
        filled = {"name": engine.name, "n": f"{number:0{width}}"}
        new[engine.pk] = FILLED_IN.sub(lambda found: filled[found[1]], pattern)  # noqa: B023 (called at once)
    return checked(engines, new, pattern)


def checked(engines: list[Engine], new: Mapping[int, str], pattern: str = "") -> Names:
    """Return the names with what is wrong with them. A name that another engine has now is taken, even if it changes:

    which of them is renamed first nobody knows.
    """
    return Names(pattern, new, list(_problems(engines, new)))


def _problems(engines: list[Engine], new: Mapping[int, str]) -> Iterator[str]:
    numbers, owners = Counter(new.values()), _owners(engines, new)
    for name in dict.fromkeys(new.values()):
        if len(name) > LONGEST:
            yield f"“{name[:30]}…” has more than {LONGEST} characters."
        if not name.isprintable() or not name.strip():
            yield "A name has printable characters only, and at least one."
        if numbers[name] > 1:
            yield f"{numbers[name]} engines would be called “{name[:LONGEST]}”. Put {{n}} or {{name}} in."
    for engine in engines:
        name = new[engine.pk]
        if name == engine.name:
            yield f"{name} is called that already. Leave it out."
        elif owners.get((engine.connection_id, name), engine.uid) != engine.uid:
            yield f"“{name}” is what another engine is called."


def _owners(engines: list[Engine], new: Mapping[int, str]) -> dict[tuple[int, str], str]:
    """Return which engines have these names now, at which connection."""
    wanted = [name for name in new.values() if name.isprintable()]  # PostgreSQL takes no question with a NUL in it
    rows = Engine.objects.of(engines[0].team).filter(name__in=wanted).exclude(status="deleted") if engines else []
    return {(row.connection_id, row.name): row.uid for row in rows}
