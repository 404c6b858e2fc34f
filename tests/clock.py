"""The portal's two clocks, held by a test: what it sees is the same on every day of the year."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Clock:
    """The database's clock and the machine's."""

    def __init__(self):
        self.at, self.booted = NOON, 5000.0

    def now(self):
        return self.at

    def boot(self):
        return self.booted

    def advance(self, **by):
        self.at += timedelta(**by)
        self.booted += timedelta(**by).total_seconds()

    @classmethod
    def hold(cls, monkeypatch):
        held = cls()
        monkeypatch.setattr("portal.clock.now", held.now)
        monkeypatch.setattr("portal.clock.boot", held.boot)
        return held
