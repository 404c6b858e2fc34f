# ruff: noqa (the model as it was checked and published; its form is its own)
"""Exhaustive model check of the control plane's drain (explicit-state BFS, no dependencies).
One engine, N tasks, FIFO channels in both directions that a disconnect empties, a control plane that may restart at any moment
(its database survives, its sockets and memory do not), and an infrastructure call 'terminate machine' that is final.
Bad: a machine is terminated (or the engine exits) while it holds a task or an undelivered result; a task starts twice;
a task can never finish (checked at quiescent states)."""

import sys
from collections import deque, namedtuple


class Cfg:
    dispatch_checks = True  # dispatch reads engine.state in the same transaction that assigns
    count_assigned = True  # 'drained' needs no ASSIGNED rows too, not only no RUNNING rows
    engine_refuses = True  # a draining engine refuses tasks (engine_draining)
    requeue_on = "hello"  # 'hello' (after reconnect, by comparing lists) | 'disconnect' (mutant)
    resend_drain = True  # drain is sent again after every reconnect
    trust_report = True  # drained only on the engine's own idle report for this drain epoch
    hold_results = True  # engine keeps results until acknowledged
    check_then_drain = False  # mutant: look idle -> terminate, without draining first
    sync_first = True  # after a (re)connect nothing is dispatched until the engine's hello is reconciled
    n = 2
    disc = 2

    def __init__(s, **k):
        s.__dict__.update(k)


S = namedtuple("S", "tasks est conn s2e e2s mode local res idle seen starts term disc sync")


# tasks: q(ueued) a(ssigned) r(unning) d(one); est: running|draining|drained; seen: control plane holds an idle report made after drain
def succ(s, c):
    R = s._replace

    def tset(ts, i, v):
        l = list(ts)
        l[i] = v
        return tuple(l)

    alive = not s.term and s.mode != "exited"
    if s.conn and alive:
        for i, t in enumerate(s.tasks):
            if t == "q" and (s.sync or not c.sync_first) and (s.est == "running" or not c.dispatch_checks):
                yield f"dispatch t{i}", R(tasks=tset(s.tasks, i, "a"), s2e=s.s2e + (("task", i),))
    if s.est == "running":
        yield (
            "operator drains",
            R(est="draining", seen=False, s2e=s.s2e + (("drain", 0),) if s.conn and alive and s.sync else s.s2e),
        )
    if s.conn and s.disc < c.disc and alive:
        ts = s.tasks
        if c.requeue_on == "disconnect":
            ts = tuple("q" if t in "ar" else t for t in ts)
        yield (
            "disconnect or control plane restart",
            R(conn=False, s2e=(), e2s=(), disc=s.disc + 1, tasks=ts, seen=False, sync=False),
        )
    if not s.conn and alive:
        yield (
            "engine reconnects, hello",
            R(conn=True, e2s=(("hello", tuple(sorted(s.local)), tuple(sorted(s.res)), s.mode),)),
        )
    if alive and s.s2e and s.conn:
        m = s.s2e[0]
        q = s.s2e[1:]
        if m[0] == "task":
            if s.mode == "draining" and c.engine_refuses:
                yield f"engine refuses t{m[1]}", R(s2e=q, e2s=s.e2s + (("refuse", m[1]),))
            else:
                yield (
                    f"engine starts t{m[1]}",
                    R(
                        s2e=q,
                        local=s.local | {m[1]},
                        starts=s.starts[: m[1]] + (s.starts[m[1]] + 1,) + s.starts[m[1] + 1 :],
                        e2s=s.e2s + (("ack", m[1]),),
                    ),
                )
        elif m[0] == "drain":
            yield "engine enters draining", R(s2e=q, mode="draining", idle=False)
        elif m[0] == "got":
            yield "engine drops delivered result", R(s2e=q, res=s.res - {m[1]})
    if alive:
        for i in s.local:
            yield (
                f"t{i} finishes",
                R(
                    local=s.local - {i},
                    res=(s.res | {i}) if c.hold_results else s.res,
                    e2s=s.e2s + (("done", i),) if s.conn else s.e2s,
                ),
            )
        if s.mode == "draining" and not s.local and not s.res and s.conn and not s.idle:
            yield "engine reports idle", R(idle=True, e2s=s.e2s + (("idle", 0),))
    if s.conn and s.e2s and not s.term:
        m = s.e2s[0]
        q = s.e2s[1:]
        if m[0] == "ack":
            yield f"cp: t{m[1]} running", R(e2s=q, tasks=tset(s.tasks, m[1], "r") if s.tasks[m[1]] == "a" else s.tasks)
        elif m[0] == "refuse":
            yield (
                f"cp: t{m[1]} back to queue",
                R(e2s=q, tasks=tset(s.tasks, m[1], "q") if s.tasks[m[1]] == "a" else s.tasks),
            )
        elif m[0] == "done":
            yield f"cp: t{m[1]} done", R(e2s=q, tasks=tset(s.tasks, m[1], "d"), s2e=s.s2e + (("got", m[1]),))
        elif m[0] == "idle":
            yield "cp: idle report", R(e2s=q, seen=True)
        elif m[0] == "hello":
            ts = list(s.tasks)
            out = s.s2e
            for i, t in enumerate(ts):
                if i in m[2]:
                    ts[i] = "d"
                    out = out + (("got", i),)
                elif i in m[1]:
                    ts[i] = "r"
                elif t in "ar" and c.requeue_on == "hello":
                    ts[i] = "q"
            if s.est != "running" and c.resend_drain:
                out = out + (("drain", 0),)
            yield "cp: reconciles hello", R(e2s=q, tasks=tuple(ts), s2e=out, idle=False, sync=True)
    busy = [t for t in s.tasks if t == "r" or (t == "a" and c.count_assigned)]
    if s.est == "draining" and not busy and (s.seen or not c.trust_report):
        yield "cp: drained", R(est="drained")
    if s.est == "drained" and not s.term:
        yield "cp: terminate machine", R(term=True)
    if c.check_then_drain and s.est == "running" and not busy:
        yield "cp: looked idle -> terminate decided", R(est="drained")


def bad(s):
    if s.term and s.local:
        return "machine terminated while a task was running on it"
    if s.term and s.res:
        return "machine terminated with an undelivered result"
    if any(x > 1 for x in s.starts):
        return "a task was started twice"


def run(name, c):
    s0 = S(
        ("q",) * c.n,
        "running",
        True,
        (),
        (),
        "running",
        frozenset(),
        frozenset(),
        False,
        False,
        (0,) * c.n,
        False,
        0,
        True,
    )
    par = {s0: None}
    q = deque([s0])
    n = 0

    def trace(x):
        tr = []
        while par[x]:
            x, a = par[x]
            tr.append(a)
        return list(reversed(tr))

    while q:
        s = q.popleft()
        n += 1
        b = bad(s)
        if b:
            return "VIOLATION: " + b, n, trace(s)
        k = 0
        for a, t in succ(s, c):
            k += 1
            if t not in par:
                par[t] = (s, a)
                q.append(t)
        if k == 0 and not s.term:
            return "VIOLATION: stuck, the drain never completes", n, trace(s)
        if k == 0 and any(t in "ar" for t in s.tasks):
            return "VIOLATION: a task is lost (assigned for ever)", n, trace(s)
    return "ok", n, []


if __name__ == "__main__":
    for name, c in [
        ("protocol as designed", Cfg()),
        ("designed, 3 tasks, 1 disconnect", Cfg(n=3, disc=1)),
        (
            "MUTANT dispatch does not check the state in its transaction + engine does not refuse",
            Cfg(dispatch_checks=False, engine_refuses=False),
        ),
        ("MUTANT engine does not refuse while draining", Cfg(engine_refuses=False)),
        ("MUTANT drained looks at RUNNING rows only, no engine report", Cfg(count_assigned=False, trust_report=False)),
        ("MUTANT drained from database only (no engine report)", Cfg(trust_report=False)),
        ("MUTANT dispatch before hello is reconciled", Cfg(sync_first=False)),
        ("MUTANT requeue at disconnect", Cfg(requeue_on="disconnect")),
        ("MUTANT drain not re-sent after a reconnect", Cfg(resend_drain=False)),
        ("MUTANT results not held until acknowledged", Cfg(hold_results=False)),
        ("MUTANT check idle, then terminate", Cfg(check_then_drain=True)),
    ]:
        r = run(name, c)
        print(f"{r[0]:62s} | {name} | {r[1]} states", flush=True)
        if r[2] and "-v" in sys.argv:
            print("      " + " ; ".join(r[2]))
