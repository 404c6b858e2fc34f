"""Verbs that meet: each either takes effect as the table says or is refused with nothing changed."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from engines.controlplane.models import Engine, Instance
from tests.controlplane.conftest import kinds
from tests.controlplane.server import Server

ROUNDS = 100  # of five requests each


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("api"), API_RATE_WRITE="100000/minute")
    server.start()
    yield server
    server.close()


@pytest.mark.processes
def test_of_drains_stops_and_updates_at_once_the_stop_wins_and_the_engine_drains_once(server):
    """C8: five hundred requests, five at a time: one drain each round, told once, and the engine stops."""
    engine = server.register()
    verbs = ("drain", "update", "stop", "drain", "restart")
    with ThreadPoolExecutor(len(verbs)) as threads:
        for number in range(ROUNDS):
            boot = f"boot-{number}"
            server.register(engine_id=engine, boot=boot)
            line = server.greet(engine, boot=boot)
            answers = list(threads.map(lambda verb: server.http.post(f"/engines/{engine}/{verb}"), verbs))
            codes = [answer.status_code for answer in answers]
            assert (codes[2], codes[4]) == (200, 409)
            assert set(codes) <= {200, 409}
            assert server.engine(engine)["status"] == "stopping"
            epoch = line.wait("drain")["epoch"]
            assert epoch == number + 1
            line.say("drained", epoch=epoch)
            assert line.wait("shutdown") == {"epoch": epoch}
            assert line.heard.count("drain") == 1
            assert server.engine(engine)["status"] == "stopped"
            line.hang_up()


TABLE = [
    # what is under way, what is asked, the answer, the status afterwards
    ("drain", "drain", 200, "draining"),
    ("drain", "update", 409, "draining"),
    ("drain", "restart", 409, "draining"),
    ("drain", "stop", 200, "stopping"),
    ("stop", "drain", 409, "stopping"),
    ("stop", "update", 409, "stopping"),
    ("stop", "restart", 409, "stopping"),
    ("stop", "stop", 200, "stopping"),
    ("restart", "drain", 409, "draining"),
    ("restart", "update", 409, "draining"),
    ("restart", "restart", 200, "draining"),
    ("restart", "stop", 200, "stopping"),
    ("update", "update", 200, "running"),
    ("update", "drain", 200, "draining"),
    ("update", "restart", 200, "draining"),
    ("update", "stop", 200, "stopping"),
]


@pytest.mark.parametrize(("first", "then", "code", "status"), TABLE)
def test_what_is_under_way_decides_what_may_follow(caller, rented, first, then, code, status):
    assert caller.post(f"/engines/{rented.id}/{first}").status_code == 200
    assert caller.post(f"/engines/{rented.id}/{then}").status_code == code
    assert caller.get(f"/engines/{rented.id}").json()["status"] == status


def one_after_the_other(verbs):
    """What the table says of these verbs in this order: the answers by verb, and what is under way afterwards."""
    state, answers = "running", {}
    for verb in verbs:
        if verb == "stop":
            state, answers[verb] = "stop", 200
        elif verb == "update":
            answers[verb] = 200 if state == "running" else 409
        else:
            answers[verb] = 200 if state in ("running", verb) else 409
            state = verb if state == "running" else state
    return answers, state


@pytest.mark.parametrize("verbs", [("drain", "update", "restart"), ("drain", "update", "restart", "stop")])
@pytest.mark.django_db(databases=["default", "controlplane"], transaction=True)
def test_of_verbs_at_once_to_a_cloud_engine_each_is_answered_as_in_some_order_and_it_drains_once(caller, rented, verbs):
    """C8, on a machine that could be restarted."""
    possible = [one_after_the_other(order) for order in itertools.permutations(verbs)]
    with ThreadPoolExecutor(len(verbs)) as threads:
        for number in range(ROUNDS // 2):
            turned = verbs[number % len(verbs) :] + verbs[: number % len(verbs)]
            answers = dict(threads.map(lambda verb: (verb, ask(caller, rented, verb)), turned))
            row = rented.row
            under_way = row.follow_up or "drain"
            assert (answers, under_way) in possible
            assert row.drain_epoch == number + 1
            assert kinds(rented.due()).count("drain") == 1
            as_before(rented)


def ask(caller, agent, verb):
    try:
        return caller.post(f"/engines/{agent.id}/{verb}").status_code
    finally:
        connections.close_all()


def as_before(agent):
    """Running, on an active machine, with nothing asked of either."""
    Engine.objects.filter(pk=agent.id).update(state="running", follow_up="", update_phase="")
    Instance.objects.filter(engine=agent.id).update(status="active", tear_down=False, restart_asked=False)
