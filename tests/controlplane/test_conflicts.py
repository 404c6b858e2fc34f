"""Verbs that meet: each either takes effect as the table says or is refused with nothing changed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

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
