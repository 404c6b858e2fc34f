"""What a dialog showed: signed into its form, so that exactly this is confirmed, once, by that person."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.core import signing

from engines.enums import Verb
from engines.models import Engine
from engines.money import amounts
from engines.money.amounts import PaidTime
from engines.seen import Facts, facts
from portal.accounts.models import User

MINUTES = 15
SALT = "extend"


@dataclass(frozen=True)
class Quote:
    """So many hours at this price, from this deadline to that one. `id` becomes the operation's."""

    id: uuid.UUID
    hours: Decimal
    target: datetime
    threshold: datetime
    price: int  # cents an hour
    retry_of: str = ""  # the operation that is tried again

    @property
    def end(self) -> datetime:
        """Until when it is paid then: the target or later, by the rounding of hours and the least that is sold."""
        return amounts.after(self.threshold, self.hours)

    @property
    def cost(self) -> int:
        """In microcents."""
        return amounts.cost(self.price, self.hours)

    @property
    def hourly(self) -> int:
        """In microcents."""
        return self.price * amounts.MICROCENTS_PER_CENT

    @classmethod
    def until(cls, target: datetime, paid: PaidTime, retry_of: str = "") -> Self:
        """Enough to run until then. Raises ValueError if it does so anyway, or for a length that cannot be bought."""
        hours = amounts.hours_until(target, paid.threshold)
        if hours <= 0:
            raise ValueError("It runs until then anyway: there is nothing to buy.")
        hours = max(hours, amounts.LEAST)
        if hours > amounts.MOST:
            raise ValueError(f"At most {amounts.MOST} hours can be bought.")
        return cls(uuid.uuid4(), hours, target, paid.threshold, paid.price, retry_of)

    @classmethod
    def more(cls, hours: Decimal, paid: PaidTime, retry_of: str = "") -> Self:
        target = amounts.after(paid.threshold, hours)
        return cls(uuid.uuid4(), hours, target, paid.threshold, paid.price, retry_of)

    def parameters(self) -> dict[str, Any]:
        """Return it as JSON, all but the id."""
        return {
            "hours": str(self.hours),
            "target": self.target.isoformat(),
            "threshold": self.threshold.isoformat(),
            "price": self.price,
            "retry_of": self.retry_of,
        }

    @classmethod
    def of(cls, id: uuid.UUID, parameters: dict[str, Any]) -> Self:
        return cls(
            id,
            Decimal(parameters["hours"]),
            datetime.fromisoformat(parameters["target"]),
            datetime.fromisoformat(parameters["threshold"]),
            parameters["price"],
            parameters["retry_of"],
        )

    def sign(self, engine: Engine, user: User) -> str:
        about = [engine.team_id, engine.pk, user.pk]
        return signing.dumps([str(self.id), about, self.parameters(), facts(Verb.EXTEND, engine)], salt=SALT)

    @classmethod
    def read(cls, signed: str, engine: Engine, user: User, max_age: int | None = MINUTES * 60) -> tuple[Self, Facts]:
        """Return it, and what the dialog showed of the engine. `max_age` is in seconds.

        Raises signing.BadSignature if it was altered or made for something or somebody else, and SignatureExpired,
        which is one too, if it is too old.
        """
        id, about, parameters, seen = signing.loads(signed, salt=SALT, max_age=max_age)
        if about != [engine.team_id, engine.pk, user.pk]:
            raise signing.BadSignature("The form was made for another engine or person.")
        return cls.of(uuid.UUID(id), parameters), seen
