"""What belongs to a team: its keys, its money, and everything that happens in it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.timezone import now
from ninja import Query, Router

from engines.controlplane import changes, clouds, dto, keys, listing, problems, ratelimits, streams
from engines.controlplane import schemas as s
from engines.controlplane.auth import Bearer, key_of, team_of
from engines.controlplane.idempotency import once
from engines.controlplane.models import ApiKey, LedgerEntry, Team
from engines.controlplane.problems import Problem
from engines.controlplane.providers.base import Refused, Unclear
from engines.controlplane.routes.common import PROBLEMS, answer, done, page

router = Router(tags=["team"])

# Keys


@router.post("/apikeys", response={200: s.ApiKeyOut, **PROBLEMS}, auth=Bearer("apikeys:write"))
@once
def create_key(request: HttpRequest, asked: s.KeyIn) -> HttpResponse:
    """Make a key. Its text is in this answer and nowhere else. It cannot do what the calling key cannot."""
    caller = key_of(request)
    unknown = sorted(set(asked.scopes) - {*keys.SCOPES, "*"})
    if unknown:
        raise problems.invalid_value(f"Unknown scopes: {', '.join(unknown)}; see GET /scopes.", field="scopes")
    wanted = asked.scopes or caller.scopes
    lacking = [scope for scope in keys.expand(wanted) if not keys.grants(caller.scopes, scope)]
    if lacking:
        raise problems.insufficient_scope(lacking[0])
    if asked.expires_at is not None and asked.expires_at <= now():
        raise problems.invalid_value("expires_at must be in the future.", field="expires_at")
    expires_at = asked.expires_at or caller.expires_at
    if caller.expires_at is not None and expires_at is not None and expires_at > caller.expires_at:
        raise problems.invalid_value("expires_at must not be after the calling key's own end.", field="expires_at")
    row, text = keys.issue(team_of(request), asked.name, wanted, expires_at)
    made = answer(dto.api_key(row, text))
    made.shown_once = True  # type: ignore[attr-defined]  # for Idempotency-Key, which must not keep it
    return made


@router.post("/apikeys/list", response={200: s.ApiKeyPageOut, **PROBLEMS}, auth=Bearer("apikeys:read"))
def list_keys(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """The team's keys that were not revoked, without their texts."""
    rows = ApiKey.objects.filter(team=team_of(request), revoked_at__isnull=True)
    return page(rows, asked, listing.KEYS, dto.api_key)


@router.delete("/apikeys/{key_id}", response={204: None, **PROBLEMS}, auth=Bearer("apikeys:write"))
@once
def delete_key(request: HttpRequest, key_id: str) -> HttpResponse:
    """Revoke a key, the calling one too. Engines that are connected with it are let go within seconds."""
    rows = ApiKey.objects.filter(team=team_of(request), pk=key_id, revoked_at__isnull=True)
    if not rows.update(revoked_at=now()):
        raise problems.not_found("key")
    return done()


@router.get("/scopes", response={200: s.ScopesOut, **PROBLEMS}, auth=Bearer())
def get_scopes(request: HttpRequest) -> HttpResponse:
    """What a key can be allowed to do."""
    names = list(keys.SCOPES)
    groups = sorted({name.partition(":")[0] for name in names})
    full = _preset("full", "Full access", names)
    return answer(
        {
            "scopes": [_scope(name, text) for name, text in keys.SCOPES.items()],
            "groups": [
                {"id": name, "label": name, "description": "", "public_rows": False, "staff_only": False}
                for name in groups
            ],
            "presets": [
                full,
                _preset("engine", "An engine's own key", ["engines:write"]),
                _preset("watch", "See everything", [name for name in names if name.endswith(":read")]),
            ],
            "account_scopes": [],
            "account_groups": [],
            "login_preset": full,
        }
    )


def _scope(name: str, text: str) -> dict[str, Any]:
    group = name.partition(":")[0]
    costs = name == "engines:write"
    flags = {"sign_in_only": False, "not_for_apps": False, "costs_credits": costs}
    return {"value": name, "label": name, "description": text, "group": group, **flags}


def _preset(name: str, label: str, scopes: list[str]) -> dict[str, Any]:
    grants = keys.expand(scopes)
    return {
        "id": name,
        "label": label,
        "description": label,
        "scopes": scopes,
        "grants": grants,
        "summary": [keys.SCOPES[scope] for scope in grants],
        "hidden": False,
        "default": name == "full",
    }


@router.get("/me", response={200: s.MeOut, **PROBLEMS}, auth=Bearer())
def me(request: HttpRequest) -> HttpResponse:
    """The key that calls, what it may do, and its team. Needs no scope."""
    return answer(dto.me(ApiKey.objects.select_related("team").get(pk=key_of(request).pk)))


@router.get("/teams", response={200: list[s.TeamOut], **PROBLEMS}, auth=Bearer())
def teams(request: HttpRequest) -> HttpResponse:
    """The one team that the key belongs to."""
    return answer([dto.team(team_of(request))])


# Money


@router.get("/billing", response={200: s.BalanceOut, **PROBLEMS}, auth=Bearer("billing:read"), operation_id="billing")
@router.get(
    "/billing/balance", response={200: s.BalanceOut, **PROBLEMS}, auth=Bearer("billing:read"), operation_id="balance"
)
def balance(request: HttpRequest) -> HttpResponse:
    """What can be spent, in microcents, and how much of it is held for extensions that are being settled."""
    return answer(dto.balance(Team.objects.get(pk=team_of(request).pk)))


@router.post("/billing/transactions/list", response={200: s.LedgerPageOut, **PROBLEMS}, auth=Bearer("billing:read"))
def list_transactions(request: HttpRequest, asked: s.ListIn | None = None) -> HttpResponse:
    """Every change of the balance, newest first. Beyond the contract, which names no such list."""
    rows = LedgerEntry.objects.filter(team=team_of(request)).select_related("extension")
    return page(rows, asked, listing.LEDGER, dto.ledger_entry)


@router.get("/instances/types", response={200: list[s.InstanceTypeOut], **PROBLEMS, 502: s.ProblemOut})
def instance_types(request: HttpRequest, asked: Query[s.TypesQuery]) -> HttpResponse:
    """The machines that can be rented, with their prices in cents an hour. Needs no key."""
    ratelimits.take_anonymous(request.META.get("REMOTE_ADDR", ""))
    try:
        found = clouds.types()
    except (Refused, Unclear) as trouble:
        raise Problem(502, "provider_unclear", f"The clouds' offers cannot be read now: {trouble}") from trouble
    shown = [each for each in found if all(fits(each) for fits in _conditions(asked))]
    if asked.sort == "price":
        shown.sort(key=lambda each: each["hourly_price"])
    response = answer(shown)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def _conditions(asked: s.TypesQuery) -> list[Callable[[dict[str, Any]], bool]]:
    """Return what a type must fulfil. A place fulfils region, rental and availability together."""
    tests: list[Callable[[dict[str, Any]], bool]] = []
    for name in ("cloud", "shade_instance_type"):
        if wanted := getattr(asked, name):
            tests.append(lambda each, name=name, wanted=wanted: each[name] == wanted)  # type: ignore[misc]
    for name in ("gpu_type", "num_gpus"):
        if wanted := getattr(asked, name):
            tests.append(
                lambda each, name=name, wanted=wanted: str((each.get("configuration") or {}).get(name)) == wanted  # type: ignore[misc]
            )
    if asked.region or asked.rental_type or asked.available:
        tests.append(lambda each: any(_place_fits(place, asked) for place in each["availability"]))
    return tests


def _place_fits(place: dict[str, Any], asked: s.TypesQuery) -> bool:
    return (
        asked.region in ("", place["region"])
        and asked.rental_type in ("", place.get("rental_type") or "on_demand")
        and (asked.available != "true" or bool(place["available"]))
    )


# Everything that happens


@router.get("/events", response={200: s.ChangedEngineOut, **PROBLEMS}, auth=Bearer("teams:read"))
def events(request: HttpRequest) -> Any:
    """Every change of an engine or task of the team, from now on: `event` is engines or tasks, `data` the object.

    An engine that was deleted comes a last time, with its `deleted_at`.
    """
    team = team_of(request)
    return streams.stream(request, "teams:read", (team.pk,), changes.of_team(team), named=True)
