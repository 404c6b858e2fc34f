"""What machines can be rented, as `GET /instances/types` has them (contract 3.7): one offer for each type and place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engines.api.decode import items_of
from engines.api.shapes import fitted
from engines.money.amounts import MICROCENTS_PER_CENT

NUMBER = (int, float)
SHAPE = {
    "cloud": str,
    "shade_instance_type": str,
    "hourly_price": int,
    "configuration": {
        "gpu_type": str,
        "num_gpus": NUMBER,
        "vram_per_gpu_in_gb": NUMBER,
        "memory_in_gb": NUMBER,
        "vcpus": NUMBER,
        "storage_in_gb": NUMBER,
    },
    "availability": [{"region": str, "rental_type": str, "hourly_price": int}],
}
ON_DEMAND, SPOT = "on_demand", "spot"


@dataclass(frozen=True)
class Offer:
    """A machine of this type in this place. Memory in GB; 0 where it is not said."""

    cloud: str
    instance_type: str
    region: str
    rental_type: str
    price: int  # cents an hour
    is_available: bool
    gpu: str  # "" = none
    gpus: int
    vram: int  # of each GPU
    memory: int
    vcpus: int
    storage: int

    @property
    def id(self) -> str:
        return "/".join((self.cloud, self.instance_type, self.region, self.rental_type))

    @property
    def hourly(self) -> int:
        """In microcents."""
        return self.price * MICROCENTS_PER_CENT

    @property
    def hardware(self) -> str:
        """What it is, in words."""
        gpus = f"{self.gpus} × {self.gpu or 'GPU'}" if self.gpus else ""
        vram = f"{self.vram} GB each" if self.gpus and self.vram else ""
        rest = [(self.vcpus, "{} vCPUs"), (self.memory, "{} GB memory"), (self.storage, "{} GB disk")]
        said = [gpus, vram, *(words.format(number) for number, words in rest if number)]
        return ", ".join(filter(None, said)) or self.instance_type


def offers(types: list[Any]) -> list[Offer]:
    """Return the offers, each once. What has no price or no place is none."""
    found = (offer for each in types if (one := fitted(each, SHAPE)) is not None for offer in _offers(one))
    return list({offer.id: offer for offer in found}.values())


def _offers(one: dict[str, Any]) -> Iterator[Offer]:
    facts = one.get("configuration") or {}
    gpus = int(facts.get("num_gpus") or 0)
    for place in items_of(one.get("availability")):
        rental = place.get("rental_type") or ON_DEMAND
        price = (rental == SPOT and place.get("hourly_price")) or one.get("hourly_price") or 0
        named = one.get("cloud") and one.get("shade_instance_type") and place.get("region")
        if named and 0 < price < 10**9 and rental in (ON_DEMAND, SPOT):
            yield Offer(
                cloud=one["cloud"][:50],
                instance_type=one["shade_instance_type"][:100],
                region=place["region"][:100],
                rental_type=rental,
                price=price,
                is_available=place.get("available") is True,
                gpu=(facts.get("gpu_type") or "")[:60] if gpus else "",
                gpus=gpus,
                vram=int(facts.get("vram_per_gpu_in_gb") or 0),
                memory=int(facts.get("memory_in_gb") or 0),
                vcpus=int(facts.get("vcpus") or 0),
                storage=int(facts.get("storage_in_gb") or 0),
            )
