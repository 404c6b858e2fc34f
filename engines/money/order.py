"""What the page of a new machine showed: signed into its form, so that exactly this is confirmed, once."""

import uuid
from dataclasses import asdict, dataclass
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
        return cls(id, f"{name}-{id.hex[:MARK]}", **facts)

    def parameters(self) -> dict[str, Any]:
        """Return it as JSON, all but the id."""
        facts = asdict(self) | {"hours": str(self.hours)}
        del facts["id"]
        return facts

    @classmethod
    def of(cls, id: uuid.UUID, parameters: dict[str, Any]) -> Self:
        return cls(id, **parameters | {"hours": Decimal(parameters["hours"])})

    def sign(self, connection: Connection, user: User) -> str:
        about = [connection.team_id, connection.pk, user.pk]
        return signing.dumps([str(self.id), about, self.parameters()], salt=SALT)

    @classmethod
    def read(cls, signed: str, connection: Connection, user: User) -> Self:
        """Raises signing.BadSignature if it was altered, is too old, or was made for something or somebody else."""
        id, about, parameters = signing.loads(signed, salt=SALT, max_age=MINUTES * 60)
        if about != [connection.team_id, connection.pk, user.pk]:
            raise signing.BadSignature("The form was made for another API or person.")
        return cls.of(uuid.UUID(id), parameters)
