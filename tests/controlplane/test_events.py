"""What `GET /events` reads: every change of the team, however many there are at once."""

import pytest
from django.utils.timezone import now

from engines.controlplane import changes
from engines.controlplane.models import Engine, Task, Team, Worker


@pytest.fixture
def news(team):
    """Look until nothing more is there; return the documents."""
    look = changes.of_team(team)

    def _news():
        found, page = [], look()[0]
        while page:
            found += page
            page = look()[0] if len(page) >= changes.PAGE else []
        return found

    return _news


def named(documents):
    return {(name, document["id"]) for name, document in documents}


def test_nothing_is_told_of_what_did_not_change(team, news, later):
    Engine.objects.create(team=team, name="old")
    later(60)
    news()
    later(120)
    assert news() == []


def test_more_changes_at_one_moment_than_a_page_holds_are_all_told(team, news, later):
    made = Engine.objects.bulk_create(Engine(team=team, name=f"gpu-{number}") for number in range(2 * changes.PAGE + 7))
    later(60)
    news()
    later(120)
    Engine.objects.update(updated_at=now())
    assert named(news()) == {("engines", engine.pk) for engine in made}


def test_a_change_that_was_committed_late_is_told(team, news, later):
    engine = Engine.objects.create(team=team, name="slow")
    later(60)
    before = now()
    later(62)
    news()
    Engine.objects.filter(pk=engine.pk).update(updated_at=before)
    later(63)
    assert named(news()) == {("engines", engine.pk)}


def test_a_worker_that_became_busy_is_told_as_its_engine(agent, news, later):
    later(60)
    news()
    later(120)
    Worker.objects.filter(index=0).update(status_at=now())
    assert named(news()) == {("engines", agent.id)}


def test_a_deleted_engine_is_told_a_last_time(caller, team, news):
    engine = Engine.objects.create(team=team, name="gone")
    assert caller.delete(f"/engines/{engine.pk}").status_code == 204
    [(name, told)] = news()
    assert (name, told["id"], bool(told["deleted_at"])) == ("engines", engine.pk, True)


def test_tasks_are_told_and_other_teams_are_not(team, queue, news):
    task = queue()
    other = Team.objects.create(slug="others")
    Task.objects.create(team=other, app="sleep")
    Engine.objects.create(team=other, name="theirs")
    assert named(news()) == {("tasks", task.pk)}
