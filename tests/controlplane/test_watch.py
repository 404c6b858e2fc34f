"""The look at all sockets of a process: what it writes, and for whom it rings when a wake-up was lost."""

import asyncio
import contextlib
import socket

import pytest
from django.db import connections

from engines import wire
from engines.controlplane import dispatch, frames, hearing, keys, sending, sessions, wakeups, watch
from engines.controlplane.models import ApiKey, Engine


@pytest.fixture
def rings(agent):
    """Look, and say whether the agent's socket was rung."""
    loop = asyncio.new_event_loop()

    async def begin():
        return waiting.enter_context(wakeups.listening(agent.id))

    def look():
        watch.look()
        loop.run_until_complete(asyncio.sleep(0))
        rung = bell.is_set()
        bell.clear()
        return rung

    with contextlib.ExitStack() as waiting, sessions.held(agent.session):
        waiting.callback(loop.close)
        bell = loop.run_until_complete(begin())
        yield look


def test_the_first_look_rings_and_then_only_news_does(rings):
    assert [rings(), rings(), rings()] == [True, False, False]


def test_a_task_rings(rings, queue):
    rings()
    queue()
    dispatch.run()
    assert rings()


def test_a_drain_that_somebody_else_wrote_rings(rings, agent):
    rings()
    Engine.objects.filter(pk=agent.id).update(state="draining", drain_epoch=1)
    assert rings()


def test_a_drain_is_seen_on_a_host_that_got_another_name_meanwhile(rings, agent, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    rings()
    Engine.objects.filter(pk=agent.id).update(state="draining", drain_epoch=1)
    assert rings()


def test_a_newer_connection_rings(rings, agent):
    rings()
    old = agent.session
    agent.connect()
    assert (rings(), agent.session is old) == (True, False)


def test_a_revoked_key_rings(rings, agent):
    rings()
    ApiKey.objects.filter(pk=agent.session.key_id).delete()
    assert rings()


def test_a_heartbeat_without_news_is_written_by_the_look(rings, agent, later):
    later(10)
    before = agent.row.heartbeat_at
    assert hearing.is_sign_of_life(agent.session, frames.Heartbeat(mode="running"))
    assert agent.row.heartbeat_at == before
    rings()
    assert (agent.row.heartbeat_at - before).total_seconds() > 9


def test_an_engine_that_reports_results_and_has_no_time_for_heartbeats_is_not_let_go_of(rings, agent, give, later):
    later(3 * wire.DEAD_AFTER_SECONDS)
    assert not hearing.is_sign_of_life(agent.session, frames.Result(task_id=give().pk, status="completed"))
    rings()
    sessions.forget_silent()
    assert agent.row.status == "running"


def test_a_heartbeat_of_a_replaced_connection_is_not_written(rings, agent, later):
    hearing.is_sign_of_life(agent.session, frames.Heartbeat(mode="running"))
    agent.connect()
    before = agent.row.heartbeat_at
    later(10)
    rings()
    assert agent.row.heartbeat_at == before


@pytest.mark.parametrize("news", [{"mode": "draining"}, {"warm": {"worker": ["app:1@0"]}}])
def test_a_heartbeat_with_news_is_for_the_rows_at_once_and_then_no_news(agent, news):
    said = frames.Heartbeat(**news)
    assert not hearing.is_sign_of_life(agent.session, said)
    agent.say(said)
    assert hearing.is_sign_of_life(agent.session, said)


def test_after_a_refusal_a_running_heartbeat_is_news(agent, give):
    agent.reject(give())
    assert not hearing.is_sign_of_life(agent.session, frames.Heartbeat(mode="running"))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"state": "draining", "drain_epoch": 1},
        {"state": "stopped", "drain_epoch": 1, "drained_epoch": 1},
        {"update_phase": "asked", "update_epoch": 1, "update_asked": "stable"},
    ],
)
def test_what_is_due_reads_no_column_that_the_look_does_not_see(agent, django_assert_num_queries, facts):
    Engine.objects.filter(pk=agent.id).update(**facts)
    # On PostgreSQL the statement about the key goes round Django, and is not counted.
    counted = 3 if connections["controlplane"].vendor == "sqlite" else 2
    with django_assert_num_queries(counted, using="controlplane"):
        assert len(sending.due(agent.session)) == bool(facts)


def test_a_key_without_the_scope_serves_nobody(team):
    able, unable = keys.issue(team, "able", ["engines:write"])[0], keys.issue(team, "unable", ["tasks:read"])[0]
    assert keys.serving([able.pk, unable.pk, "key_none"]) == {able.pk}


def test_no_keys_serve_nobody():
    assert keys.serving([]) == set()
