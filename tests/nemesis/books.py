"""What must be true afterwards, read from both databases and the engines' logs. Each check yields what is wrong."""

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise

from engines import enums

OPEN = str(tuple(sorted(str(state) for state in enums.OPEN)))
SETTLED = "('waiting','unknown','stuck','needs_attention')"  # what a person is asked about, or readings settle
CHARGED = ("confirmed", "discrepancy", "observed")
EXTENSIONS = """SELECT o.id, e.uid, o.state, x.outcome, x.hours, x.cost, x.before, x.armed_at, o.attempts
    FROM engines_extension x JOIN engines_operation o ON o.id = x.operation_id
    JOIN engines_engine e ON e.id = o.engine_id"""
THEIR_EXTENSIONS = "SELECT engine_id, state, hours, cost_microcents, before FROM controlplane_extension"
COMPLETED = 10


def restless(fleet):
    """The operations that should soon move by themselves."""
    return fleet.query(f"SELECT id, verb, state, note FROM engines_operation WHERE state IN {OPEN} AND NOT ({AT_REST})")


# A drain goes on while somebody looks at it; money that is unknown is read again for a quarter of an hour.
AT_REST = f"state IN {SETTLED} AND (verb = 'extend' OR state <> 'unknown')"


def money(fleet):
    """What they charged is what is booked here, and what is unknown here: one by one, and in sum."""
    theirs = {
        (uid, to_the_millisecond(before)): (float(hours), cost)
        for uid, state, hours, cost, before in held(fleet, "done")
    }
    ours = defaultdict(list)
    for row in fleet.query(EXTENSIONS):
        if row[6] is not None:
            ours[row[1], to_the_millisecond(row[6])].append(row)
    for at, (hours, cost) in theirs.items():
        found = [row for row in ours[at] if float(row[4]) == hours and row[5] == cost]
        counted = [row for row in found if row[3] in CHARGED or row[2] in ("unknown", "needs_attention")]
        if len(counted) != 1:
            yield f"{hours} h of {at} were charged; the portal has {[row[:4] for row in ours[at]]} for it"
    for at, rows in ours.items():
        for row in rows:
            if row[3] in CHARGED and at not in theirs:
                yield f"{row[0]} is {row[3]}, but nothing was charged for {at}"
    yield from sums(fleet, sum(cost for _, cost in theirs.values()), theirs, ours)


def to_the_millisecond(at):
    """A time as both databases tell it, and as the API gives it on."""
    at = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def sums(fleet, charged, theirs, ours):
    booked = fleet.query("SELECT coalesce(sum(cost), 0) FROM engines_ledgerentry")[0][0]
    unknown = [row for at in theirs for row in ours[at] if row[2] in ("unknown", "needs_attention")]
    paid = fleet.upstream(
        "SELECT coalesce(sum(amount_microcents), 0) FROM controlplane_ledgerentry WHERE kind='extend'"
    )
    if not int(charged) == -int(paid[0][0]) == int(booked) + sum(row[5] for row in unknown):
        yield f"charged {charged}, paid {-paid[0][0]}, booked {booked}, unknown {sum(row[5] for row in unknown)}"


def held(fleet, state):
    return [row for row in fleet.upstream(THEIR_EXTENSIONS) if row[1] == state]


def ledger(fleet):
    """Every entry is of one operation that was charged, and the other way round."""
    booked = Counter(
        str(row[0]).replace("-", "") for row in fleet.query("SELECT operation_id FROM engines_ledgerentry")
    )
    charged = Counter(str(row[0]).replace("-", "") for row in fleet.query(EXTENSIONS) if row[3] in CHARGED)
    if booked != charged:
        yield f"the ledger has {booked - charged} too many and {charged - booked} too few"


def sends(fleet):
    """Money is armed once, or again after a 429; nobody asks for so much here that there could be one."""
    yield from (f"{row[0]} was sent {row[8]} times" for row in fleet.query(EXTENSIONS) if row[8] > 1)


def locks(fleet):
    """An engine has one open operation at a time, and one open purchase: by the order of the log, which is that of the
    commits. A person's clock says when they asked, which may be while they wait for the row of somebody else's wish."""
    numbers = defaultdict(dict)
    for pk, action, number in fleet.query("SELECT operation_id, action, number FROM audit_entry ORDER BY number"):
        numbers[str(pk).replace("-", "")][action] = number
    spans = defaultdict(list)
    for engine, verb, state, end, pk in fleet.query(
        "SELECT engine_id, verb, state, finished_at, id FROM engines_operation"
    ):
        said = numbers[str(pk).replace("-", "")]
        if f"engine.{verb}" not in said or (end and f"operation.{state}" not in said):
            yield f"{pk} is {state}, and the log has {said} of it"
            continue
        end = said[f"operation.{state}"] if end else None
        spans[engine, verb == "extend"].append((said[f"engine.{verb}"], end, pk))
    for (engine, _), every in spans.items():
        for (_, end, first), (begin, _, second) in pairwise(sorted(every)):
            if end is None or begin < end:
                yield f"{first} and {second} were open on engine {engine} at once"


def tasks(fleet, fed):
    """Every task ran once, to its end."""
    with fleet.api() as api:
        states = Counter(api.get(f"/tasks/{task}").raise_for_status().json()["status"] for task in fed)
    if set(states) - {COMPLETED}:
        yield f"tasks ended as {dict(states)}"
    yield from (f"task {task} ran {times} times" for task, times in Counter(fleet.taken()).items() if times > 1)
    if never := set(fed) - set(fleet.taken()):
        yield f"tasks that no engine took: {never}"


def rest(fleet):
    """Nothing waits but for readings or for a person."""
    yield from (f"still open: {row}" for row in restless(fleet))


def chain(fleet):
    try:
        fleet.command("verify_audit")
    except Exception as error:
        yield f"the audit log is broken: {error}"


def audited(fleet):
    """Every charge is in the audit log, once."""
    booked = fleet.query("SELECT count(*) FROM engines_ledgerentry")[0][0]
    said = fleet.query("SELECT count(*) FROM audit_entry WHERE action = 'cloudtime.charged'")[0][0]
    if booked != said:
        yield f"{booked} charges are booked and {said} are in the audit log"


def budgets(fleet):
    """The team's limit of a day is never passed, whoever clicked when; here it only ever rises."""
    spent = fleet.query(
        f"""SELECT coalesce(sum(x.cost), 0) FROM engines_extension x JOIN engines_operation o ON o.id = x.operation_id
        WHERE o.state IN {OPEN} OR x.outcome IN {CHARGED}"""
    )[0][0]
    limit, days = highest_limit(fleet), len(fleet.query("SELECT DISTINCT date(requested_at) FROM engines_operation"))
    if spent > limit * days:
        yield f"{spent} were spent of {limit}"


def highest_limit(fleet):
    """What the team might spend a day in the end, by the log: in microcents."""
    set_to = fleet.query("SELECT CAST(after AS TEXT) FROM audit_entry WHERE action = 'cloudtime.limits'")
    return max(round(float(json.loads(row[0])["team_day"]) * 10**8) for row in set_to)


CHECKS = (money, ledger, sends, locks, rest, chain, audited, budgets)


def wrong(fleet, fed):
    """Everything that is wrong, as lines."""
    found = [f"{check.__name__}: {line}" for check in CHECKS for line in check(fleet)]
    return found + [f"tasks: {line}" for line in tasks(fleet, fed)]
