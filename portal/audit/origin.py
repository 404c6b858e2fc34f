"""Where an action came from: kept on operations, so that what a worker does later still names its request."""

from dataclasses import dataclass

from portal.http import PortalRequest


@dataclass(frozen=True)
class Origin:
    request_id: str = ""
    address: str = ""
    role: str = ""

    @classmethod
    def of(cls, request: PortalRequest) -> "Origin":
        return cls(
            request_id=request.request_id,
            address=request.META.get("REMOTE_ADDR", ""),
            role=request.membership.role,
        )
