"""What a dialog was about: signed into its form, so that it means one operation of one person on one engine."""

import uuid
from typing import NamedTuple

from django.core import signing

from engines.enums import Verb
from engines.models import Engine
from engines.seen import Facts, facts
from portal.accounts.models import User

MINUTES = 15


class Ticket(NamedTuple):
    operation_id: uuid.UUID
    seen: Facts  # of the engine, as shown

    @classmethod
    def issue(cls, verb: Verb, engine: Engine, user: User) -> str:
        return signing.dumps([str(uuid.uuid4()), verb, engine.pk, user.pk, facts(verb, engine)], salt="ticket")

    @classmethod
    def read(cls, signed: str, verb: Verb, engine: Engine, user: User) -> "Ticket":
        """Raises signing.BadSignature if it was altered, is too old, or was issued for something else."""
        operation_id, *about, seen = signing.loads(signed, salt="ticket", max_age=MINUTES * 60)
        if about != [verb, engine.pk, user.pk]:
            raise signing.BadSignature("The form was made for another engine or person.")
        return cls(uuid.UUID(operation_id), seen)


class BulkTicket(NamedTuple):
    """The same for many engines: `marks` and `fingerprint` are those of the plan as shown."""

    batch_id: uuid.UUID
    marks: dict[int, str]
    fingerprint: str

    @classmethod
    def issue(cls, verb: Verb, team_id: int, user: User, marks: dict[int, str], fingerprint: str) -> str:
        alike: dict[str, list[int]] = {}
        for pk, mark in marks.items():
            alike.setdefault(mark, []).append(pk)
        said = [str(uuid.uuid4()), verb, team_id, user.pk, alike, fingerprint]
        return signing.dumps(said, salt="bulk-ticket", compress=True)

    @classmethod
    def read(cls, signed: str, verb: Verb, team_id: int, user: User) -> "BulkTicket":
        """Raises signing.BadSignature if it was altered, is too old, or was issued for something else."""
        batch_id, *about, alike, fingerprint = signing.loads(signed, salt="bulk-ticket", max_age=MINUTES * 60)
        if about != [verb, team_id, user.pk]:
            raise signing.BadSignature("The form was made for another team or person.")
        return cls(uuid.UUID(batch_id), {pk: mark for mark, pks in alike.items() for pk in pks}, fingerprint)
