"""What the page of a new machine showed: signed into its form, so that exactly this is confirmed, once."""

import uuid
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any, Self

from django.core import signing

from engines.money import amounts
from engines.money.quote import MINUTES
from portal.accounts.models import User
from portal.vault.models import Connection

SALT = "order"
LEAST = Decimal(1)
MOST = Decimal(24 * 30)
MARK = 6  # letters of the id that the name ends in
MACHINES = 20  # at once


@dataclass(frozen=True)
class Order:
    """A machine of this type there, for so many hours at this price. `id` becomes the operation's.

    `name` ends in a mark of the id: by it the engine is told from every other, should the answer get lost.
    """

    id: uuid.UUID
    name: str
    cloud: str
    region: str
    instance_type: str
    rental_type: str
    hardware: str  # in words
    hours: Decimal
    price: int  # cents an hour
    retry_of: str = ""  # the operation that is tried again

    @property
    def offer(self) -> str:
        """The id of what was chosen: see engines.money.offers."""
        return "/".join((self.cloud, self.instance_type, self.region, self.rental_type))

    @property
    def given_name(self) -> str:
        """The name without its mark."""
        return self.name[: -MARK - 1]

    @property
    def cost(self) -> int:
        """In microcents."""
        return amounts.cost(self.price, self.hours)

    @classmethod
    def new(cls, name: str, **facts: Any) -> Self:
        id = uuid.uuid4()
        return cls(id, _marked(name, id), **facts)

    def parameters(self) -> dict[str, Any]:
        """Return it as JSON, all but the id."""
        facts = asdict(self) | {"hours": str(self.hours)}
        del facts["id"]
        return facts

    @classmethod
    def of(cls, id: uuid.UUID, parameters: dict[str, Any]) -> Self:
        return cls(id, **parameters | {"hours": Decimal(parameters["hours"])})


def _marked(name: str, id: uuid.UUID) -> str:
    return f"{name}-{id.hex[:MARK]}"


@dataclass(frozen=True)
class Orders:
    """So many machines of one kind, each an order of its own. `id` becomes the batch's, of one the operation's."""

    one: Order
    number: int
    tries: tuple[str, ...] = ()  # of several: the operations that are tried again, one for each

    def __str__(self) -> str:
        return self.one.name if self.number == 1 else f"{self.number} machines"

    @property
    def id(self) -> uuid.UUID:
        return self.one.id

    @property
    def cost(self) -> int:
        """In microcents, of all."""
        return self.one.cost * self.number

    @property
    def each(self) -> list[Order]:
        """Return the orders: the same each time, so that a form that is sent twice asks for the same."""
        return [self._numbered(number) for number in range(1, self.number + 1)] if self.number > 1 else [self.one]

    def _numbered(self, number: int) -> Order:
        id = uuid.uuid5(self.id, str(number))
        retry_of = self.tries[number - 1] if self.tries else ""
        return replace(self.one, id=id, name=_marked(f"{self.one.given_name}-{number}", id), retry_of=retry_of)

    def sign(self, connection: Connection, user: User) -> str:
        about = [connection.team_id, connection.pk, user.pk]
        return signing.dumps([str(self.id), about, self.one.parameters(), self.number, *self.tries], salt=SALT)

    @classmethod
    def read(cls, signed: str, connection: Connection, user: User, max_age: int | None = MINUTES * 60) -> Self:
        """Return them. `max_age` is in seconds.

        Raises signing.BadSignature if they were altered or made for something or somebody else, and SignatureExpired,
        which is one too, if they are too old.
        """
        id, about, parameters, number, *tries = signing.loads(signed, salt=SALT, max_age=max_age)
        if about != [connection.team_id, connection.pk, user.pk]:
            raise signing.BadSignature("The form was made for another API or person.")
        return cls(Order.of(uuid.UUID(id), parameters), number, tuple(tries))
