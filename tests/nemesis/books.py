"""What must be true afterwards, read from both databases and the engines' logs. Each check yields what is wrong."""

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise

from engines import enums
from tests.nemesis.fleet import HOST, ORDERED

OPEN = str(tuple(sorted(str(state) for state in enums.OPEN)))
SETTLED = "('waiting','unknown','stuck','needs_attention')"  # what a person is asked about, or readings settle
CHARGED = ("confirmed", "discrepancy", "observed", "unused")
PURCHASES = """SELECT o.id, e.uid, o.state, x.outcome, x.hours, x.cost, x.before, x.armed_at, o.attempts
    FROM engines_extension x JOIN engines_operation o ON o.id = x.operation_id
    LEFT JOIN engines_engine e ON e.id = o.engine_id"""
EXTENSIONS = f"{PURCHASES} WHERE o.verb = 'extend'"
BOOKED = "SELECT l.operation_id, l.engine_uid, l.cost FROM engines_ledgerentry l JOIN engines_operation o"
BOOKED += " ON o.id = l.operation_id WHERE o.verb ="
THEIR_EXTENSIONS = "SELECT engine_id, state, hours, cost_microcents, before FROM controlplane_extension"
COMPLETED = 10
FOR_PEOPLE = ("stuck", "needs_attention")
RINGING = (*FOR_PEOPLE, "unknown")
KEYS = f"engine {HOST}"  # the names of the keys that are made for engines on other hosts


def restless(fleet):
    """The operations that should soon move by themselves."""
    moving = f"state IN {OPEN} AND (NOT ({AT_REST}) OR ({LET_GO}) OR ({BACK}))"
    return fleet.query(f"SELECT id, verb, state, note FROM engines_operation WHERE {moving}")


# A drain goes on while somebody looks at it; money that is unknown is read again for a quarter of an hour.
AT_REST = f"state IN {SETTLED} AND (verb IN ('extend', 'create') OR state <> 'unknown')"
# What is queued behind something that has ended, and what waits for an engine that is there.
LET_GO = "released_at IS NULL AND behind_id IN (SELECT id FROM engines_operation WHERE finished_at IS NOT NULL)"
BACK = """state = 'waiting' AND (behind_id IS NULL OR released_at IS NOT NULL)
    AND engine_id IN (SELECT id FROM engines_engine WHERE status = 'running')"""


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


def doubts(fleet):
    """What is unknown here is what no reading shows: neither more paid time, nor a machine of that name."""
    theirs = {(row[0], to_the_millisecond(row[4]), float(row[2])) for row in held(fleet, "done")}
    for pk, uid, state, _, hours, _, before, *_ in fleet.query(EXTENSIONS):
        if state == "unknown" and (uid, to_the_millisecond(before), float(hours)) in theirs:
            yield f"{pk} is unknown, and {uid} has its {hours} h"
    names = {engine["name"] for engine in fleet.engines()}
    ordered = fleet.query("SELECT engine_name FROM engines_operation WHERE verb = 'create' AND state = 'unknown'")
    yield from (f"the order of {name} is unknown, and it is there" for (name,) in ordered if name in names)


def to_the_millisecond(at):
    """A time as both databases tell it, and as the API gives it on."""
    at = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def sums(fleet, charged, theirs, ours):
    booked = sum(cost for _, _, cost in fleet.query(f"{BOOKED} 'extend'"))
    unknown = [row for at in theirs for row in ours[at] if row[2] in ("unknown", "needs_attention")]
    paid = fleet.upstream(
        "SELECT coalesce(sum(amount_microcents), 0) FROM controlplane_ledgerentry WHERE kind='extend'"
    )
    if not int(charged) == -int(paid[0][0]) == booked + sum(row[5] for row in unknown):
        yield f"charged {charged}, paid {-paid[0][0]}, booked {booked}, unknown {sum(row[5] for row in unknown)}"


def held(fleet, state):
    return [row for row in fleet.upstream(THEIR_EXTENSIONS) if row[1] == state]


PAID = f"""SELECT e.id, e.name, -sum(l.amount_microcents) FROM controlplane_ledgerentry l
    JOIN controlplane_engine e ON e.id = l.engine_id
    WHERE l.kind IN ('create', 'refund') AND e.name LIKE '{ORDERED}%' GROUP BY e.id, e.name"""


def orders(fleet):
    """Each machine was ordered once, and what was paid for it is booked here; or that is unknown here."""
    booked = {uid: cost for _, uid, cost in fleet.query(f"{BOOKED} 'create'")}
    asked = dict(fleet.query("SELECT engine_name, state FROM engines_operation WHERE verb = 'create'"))
    paid = [(uid, name, int(cost)) for uid, name, cost in fleet.upstream(PAID)]
    for uid, name, cost in paid:
        if asked.get(name) not in ("unknown", "needs_attention") and booked.get(uid, 0) != cost:
            yield f"{cost} were paid for {name}; the portal has {booked.get(uid)} for it, and it is {asked.get(name)}"
    yield from (f"{name} was ordered {n} times" for name, n in Counter(name for _, name, _ in paid).items() if n > 1)
    if never := set(booked) - {uid for uid, _, cost in paid if cost}:
        yield f"booked, but never paid for: {never}"


def added(fleet):
    """The key of an engine on another host was made once, as the log says; and each that was started is there."""
    log = fleet.query("SELECT CAST(detail AS TEXT) FROM audit_entry WHERE action = 'enginekey.asked'")
    asked = {json.loads(row[0])["label"] for row in log}
    made = Counter(row[0] for row in fleet.upstream(f"SELECT name FROM controlplane_apikey WHERE name LIKE '{KEYS}%'"))
    yield from (f"the key “{label}” was made {n} times" for label, n in made.items() if n > 1 or label not in asked)
    shown = [name for name, _ in fleet.keys_shown]
    yield from (f"the key of {name} was shown, and is none" for name in shown if made[f"engine {name}"] != 1)
    running = [engine["name"] for engine in fleet.engines() if engine["status"] == "running"]
    yield from (f"{name} runs {running.count(name)} times" for name in fleet.added if running.count(name) != 1)


def away(fleet):
    """Each of the team's own engines runs, however often it was drained and stopped."""
    for engine in fleet.engines():
        if engine["id"] in fleet.own and engine["status"] != "running":
            yield f"{engine['id']} is {engine['status']}"


def mirror(fleet):
    """The portal shows each engine as the API has it."""
    shown = {row[0]: row[1:] for row in fleet.query("SELECT uid, name, status, version FROM engines_engine")}
    for engine in fleet.engines():
        there = tuple(engine.get(name) or "" for name in ("name", "status", "engine_version"))
        if shown.get(engine["id"]) != there:
            yield f"{engine['id']} is {there}, and the portal shows {shown.get(engine['id'])}"


def alarms(fleet):
    """What rings is what waits for a person, or has long been unknown; all is read and swept (docs/production.md)."""
    numbers = fleet.numbers()
    waiting = Counter(tuple(row) for row in fleet.query("SELECT verb, state FROM engines_operation"))
    for name, labels, value in numbers:
        state = labels.get("state")
        if name == "portal_operations_alarming" and value > waiting[labels["verb"], state] * (state in RINGING):
            yield f"{value:.0f} alarms of {labels}"
        if name == "portal_operations_alarming" and state in FOR_PEOPLE and value < waiting[labels["verb"], state]:
            yield f"only {value:.0f} alarms of {labels}"
    rows = {(name, *labels.values()): value for name, labels, value in numbers}
    wanted = {
        ("portal_database_up",): 1, ("portal_broker_up",): 1, ("portal_connections", "failing"): 0,
        ("portal_connections", "ok"): 1, ("portal_csp_reports_total",): 0,
    }  # fmt: skip
    yield from (f"{name} is {rows.get(name)}" for name, value in wanted.items() if rows.get(name) != value)
    if rows["portal_workers",] < 1:
        yield "no worker is seen"


ASKING = """SELECT o.id, o.verb, e.status, CAST(o.parameters AS TEXT), CAST(e.wire AS TEXT) FROM engines_operation o
    JOIN engines_engine e ON e.id = o.engine_id WHERE o.state = 'needs_attention'"""


def attention(fleet):
    """Nobody is asked about what the portal sees has happened, or is happening."""
    for pk, verb, status, parameters, wire in fleet.query(ASKING):
        before, now = (json.loads(text).get("boot_id") for text in (parameters, wire))
        if verb in ("drain", "stop") and status in ("draining", "stopping"):
            yield f"{pk}, a {verb}, needs attention, and its engine is {status}"
        if verb == "restart" and status == "running" and before and now and before != now:
            yield f"{pk} needs attention, and its engine was restarted"


def ledger(fleet):
    """Every entry is of one operation that was charged, and the other way round."""
    booked = Counter(
        str(row[0]).replace("-", "") for row in fleet.query("SELECT operation_id FROM engines_ledgerentry")
    )
    charged = Counter(str(row[0]).replace("-", "") for row in fleet.query(PURCHASES) if row[3] in CHARGED)
    if booked != charged:
        yield f"the ledger has {booked - charged} too many and {charged - booked} too few"


def sends(fleet):
    """Money is armed once, or again after a 429; nobody asks for so much here that there could be one."""
    yield from (f"{row[0]} was sent {row[8]} times" for row in fleet.query(PURCHASES) if row[8] > 1)


def locks(fleet):
    """An engine has one open operation at a time, and one open purchase: by the order of the log, which is that of the
    commits. A person's clock says when they asked, which may be while they wait for the row of somebody else's wish.

    A machine's order is open on no engine until there is one; what is queued is not until that before it has ended.
    """
    numbers = defaultdict(dict)
    for pk, action, number in fleet.query("SELECT operation_id, action, number FROM audit_entry ORDER BY number"):
        numbers[str(pk).replace("-", "")][action] = number
    spans = defaultdict(list)
    for engine, verb, state, end, pk, behind, released in fleet.query(
        "SELECT engine_id, verb, state, finished_at, id, behind_id, released_at FROM engines_operation"
        " WHERE verb <> 'create'"
    ):
        said = numbers[str(pk).replace("-", "")]
        if f"engine.{verb}" not in said or (end and f"operation.{state}" not in said):
            yield f"{pk} is {state}, and the log has {said} of it"
            continue
        end = said[f"operation.{state}"] if end else None
        if behind is None:
            spans[engine, verb == "extend"].append((said[f"engine.{verb}"], end, pk))
        elif released:
            before = numbers[str(behind).replace("-", "")]
            spans[engine, False].append((max(before.values()), end, pk))
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
        WHERE o.state IN {OPEN}"""
    )[0][0]
    spent += fleet.query("SELECT coalesce(sum(cost), 0) FROM engines_ledgerentry")[0][0]
    limit, days = highest_limit(fleet), len(fleet.query("SELECT DISTINCT date(requested_at) FROM engines_operation"))
    if spent > limit * days:
        yield f"{spent} were spent of {limit}"


def highest_limit(fleet):
    """What the team might spend a day in the end, by the log: in microcents."""
    set_to = fleet.query("SELECT CAST(after AS TEXT) FROM audit_entry WHERE action = 'cloudtime.limits'")
    return max(round(float(json.loads(row[0])["team_day"]) * 10**8) for row in set_to)


CHECKS = (
    *(money, orders, doubts, ledger, sends, locks, rest, chain, audited, budgets),
    *(away, added, mirror, alarms, attention),
)


def wrong(fleet, fed):
    """Everything that is wrong, as lines."""
    found = [f"{check.__name__}: {line}" for check in CHECKS for line in check(fleet)]
    return found + [f"tasks: {line}" for line in tasks(fleet, fed)]
