# ruff: noqa (the model as it was checked and published; its form is its own)
"""Exhaustive model check of the extend protocol (explicit-state search, no dependencies).

One engine, one logical intent of H hours (op 0; op 1 exists only after an explicit human re-send), optionally a second
independent intent (op 2), two portal workers, at-least-once messages, crashes and unbounded pauses of workers anywhere,
an upstream that may apply or not, answer or not, answer 5xx after applying, and apply late (up to DELAY ticks after send),
plus (optionally) one extension made by somebody outside the portal.
Time is abstract: LEASE ticks until a lease is stale, WINDOW ticks allowed between arm and first byte, SETTLE ticks before an
unchanged threshold may be called 'not applied'.
"""

import sys, itertools
from collections import deque, namedtuple


class Cfg:
    fence = True
    armed_blocks = True
    window_check = True
    engine_lock = True
    auto_retry = False
    settle = 3
    delay = 2
    lease = 1
    window = 0
    two_intents = False
    external = False
    lock_first = True
    maxt = 6

    def __init__(s, **k):
        s.__dict__.update(k)


Op = namedtuple("Op", "st fence lease_t before armed_t sent charged")  # charged: times upstream applied it
W = namedtuple("W", "pc op fence before armed_t")
S = namedtuple("S", "t T ops ws flight ext")  # flight: tuple of (op, sent_t, worker) not yet decided
IDLE = W("idle", -1, -1, -1, -1)


def opx(st):
    return Op(st, 0, -9, -1, -1, 0, 0)


BLOCK = ("preflight", "armed", "unknown", "ambiguous")
H = 1


def succ(s, c):
    def put(**k):
        return s._replace(**k)

    def setop(ops, i, **k):
        l = list(ops)
        l[i] = l[i]._replace(**k)
        return tuple(l)

    def setw(i, w):
        l = list(s.ws)
        l[i] = w
        return tuple(l)

    if s.t < c.maxt:
        yield "tick", put(t=s.t + 1)
    if c.external and not s.ext:
        yield "external extend", put(T=s.T + H, ext=True)
    for wi, w in enumerate(s.ws):
        if w.pc != "idle":
            yield f"crash w{wi}", put(ws=setw(wi, IDLE))  # SIGKILL at any point
        if w.pc == "idle":
            for i, o in enumerate(s.ops):
                ok = o.st in ("queued", "preflight") or (not c.armed_blocks and o.st in ("armed", "unknown"))
                if c.engine_lock and c.lock_first and any(j != i and p.st in BLOCK for j, p in enumerate(s.ops)):
                    ok = False
                if ok and (o.lease_t + c.lease < s.t or o.lease_t == -9):
                    yield (
                        f"w{wi} claims op{i}" + (" + engine lock" if c.lock_first else ""),
                        put(
                            ops=setop(s.ops, i, st="preflight", fence=o.fence + 1, lease_t=s.t),
                            ws=setw(wi, W("claimed", i, o.fence + 1, -1, -1)),
                        ),
                    )
        elif w.pc == "claimed":
            yield f"w{wi} preflight GET", put(ws=setw(wi, w._replace(pc="ready", before=s.T)))
        elif w.pc == "ready":
            o = s.ops[w.op]
            ok = (o.st == "preflight" or not c.armed_blocks) and (o.fence == w.fence or not c.fence)
            if c.engine_lock and any(
                j != w.op and p.st in BLOCK and (c.lock_first or p.st != "preflight") for j, p in enumerate(s.ops)
            ):
                ok = False
            if ok:
                yield (
                    f"w{wi} arms op{w.op} (commit)",
                    put(
                        ops=setop(s.ops, w.op, st="armed", before=w.before, armed_t=s.t, lease_t=s.t),
                        ws=setw(wi, w._replace(pc="armed", armed_t=s.t)),
                    ),
                )
            else:
                yield f"w{wi} arm refused", put(ws=setw(wi, IDLE))
        elif w.pc == "armed":
            o = s.ops[w.op]
            if c.window_check and s.t - w.armed_t > c.window:
                n = setop(s.ops, w.op, st="notsent") if o.st == "armed" and o.fence == w.fence else s.ops
                yield f"w{wi} too late, does not send", put(ops=n, ws=setw(wi, IDLE))
            else:
                yield (
                    f"w{wi} sends op{w.op}",
                    put(
                        ops=setop(s.ops, w.op, sent=o.sent + 1),
                        ws=setw(wi, w._replace(pc="wait")),
                        flight=s.flight + ((w.op, s.t, wi),),
                    ),
                )
        elif w.pc == "wait":
            o = s.ops[w.op]
            st = "queued" if c.auto_retry else "unknown"
            n = setop(s.ops, w.op, st=st, lease_t=-9) if o.st == "armed" and o.fence == w.fence else s.ops
            yield f"w{wi} times out -> {st}", put(ops=n, ws=setw(wi, IDLE))
    for fi, (i, st_, wi) in enumerate(s.flight):
        rest = s.flight[:fi] + s.flight[fi + 1 :]
        if s.t - st_ <= c.delay:
            for applied in (True, False):
                T = s.T + H if applied else s.T
                ops = setop(s.ops, i, charged=s.ops[i].charged + 1) if applied else s.ops
                yield f"upstream applied={applied}, answer lost or 5xx", put(T=T, ops=ops, flight=rest)
                w = s.ws[wi]
                if w.pc == "wait" and w.op == i:  # a definite answer reaches the worker
                    o = ops[i]
                    new = "confirmed" if applied else "failed"
                    n = setop(ops, i, st=new) if o.st == "armed" and o.fence == w.fence else ops
                    yield (
                        f"upstream applied={applied}, answered {'200' if applied else '400'}",
                        put(T=T, ops=n, flight=rest, ws=setw(wi, IDLE)),
                    )
        else:
            yield "request died", put(flight=rest)
    for i, o in enumerate(s.ops):
        if o.st == "preflight" and o.lease_t + c.lease < s.t:
            yield f"sweep op{i}: preflight stale -> queued", put(ops=setop(s.ops, i, st="queued", lease_t=-9))
        if o.st == "armed" and o.lease_t + c.lease < s.t:
            yield f"sweep op{i}: armed and stale -> unknown", put(ops=setop(s.ops, i, st="unknown"))
        if o.st == "unknown":
            if s.T == o.before + H:
                yield f"reconcile op{i} by GET: confirmed (observed)", put(ops=setop(s.ops, i, st="observed"))
            elif s.T == o.before:
                if s.t - o.armed_t >= c.settle:
                    yield (
                        f"reconcile op{i}: unchanged after settle -> not applied",
                        put(ops=setop(s.ops, i, st="notapplied")),
                    )
            else:
                yield f"reconcile op{i}: ambiguous -> human", put(ops=setop(s.ops, i, st="ambiguous"))
    if s.ops[0].st in ("notapplied", "notsent") and s.ops[1].st == "none":
        yield "human re-sends as op1", put(ops=setop(s.ops, 1, st="queued"))


def bad(s, c):
    for i, o in enumerate(s.ops):
        if o.sent > 1:
            return f"op{i} sent twice"
        if o.charged > 1:
            return f"op{i} charged twice"
        if o.st == "failed" and o.charged:
            return f"op{i} shown as failed but charged"
        if o.st == "confirmed" and not o.charged:
            return f"op{i} shown as confirmed but not charged"
        if o.st == "observed" and not o.charged and not s.ext and not any(f[0] == i for f in s.flight):
            return f"op{i} observed but charged by another op"
    if s.ops[0].charged + s.ops[1].charged > 1:
        return "one intent charged twice (after a human re-send)"
    if s.ops[0].st in ("notapplied", "notsent") and s.ops[0].charged:
        return "op0 shown as not applied but charged"


def run(name, c, limit=3_000_000):
    s0 = S(0, 0, (opx("queued"), opx("none"), opx("queued" if c.two_intents else "none")), (IDLE, IDLE), (), False)
    par = {s0: None}
    q = deque([s0])
    n = 0
    while q:
        s = q.popleft()
        n += 1
        b = bad(s, c)
        if b:
            tr = []
            x = s
            while par[x]:
                x, a = par[x]
                tr.append(a)
            return name, "VIOLATION: " + b, n, list(reversed(tr))
        if n > limit:
            return name, "limit", n, []
        for a, t in succ(s, c):
            if t not in par:
                par[t] = (s, a)
                q.append(t)
    return name, "ok", n, []


if __name__ == "__main__":
    runs = [
        ("protocol as designed", Cfg()),
        ("designed, two staff (two intents)", Cfg(two_intents=True, maxt=4)),
        ("designed, somebody extends outside the portal", Cfg(external=True)),
        ("MUTANT no fencing token at arm", Cfg(fence=False)),
        ("MUTANT redelivered message may re-run an armed op", Cfg(armed_blocks=False)),
        ("MUTANT no send-window check (paused worker wakes later)", Cfg(window_check=False)),
        ("MUTANT automatic retry on timeout", Cfg(auto_retry=True)),
        ("MUTANT no per-engine lock, two staff", Cfg(engine_lock=False, two_intents=True, maxt=4)),
        ("MUTANT before-threshold read outside the engine lock", Cfg(lock_first=False, two_intents=True, maxt=4)),
        ("MUTANT no fencing token, two staff", Cfg(fence=False, two_intents=True, maxt=4)),
        ("MUTANT no fencing token, extension from outside", Cfg(fence=False, external=True)),
        ("MUTANT no settle time", Cfg(settle=0)),
        ("MUTANT settle shorter than the upstream delay", Cfg(settle=2, delay=3)),
    ]
    for name, c in runs:
        r = run(name, c)
        print(f"{r[1][:70]:70s} | {r[0]} | {r[2]} states", flush=True)
        if r[3] and "-v" in sys.argv:
            print("      " + " ; ".join(r[3]))
