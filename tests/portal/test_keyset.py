"""Paging by key: every row once, in both directions, ties included."""

import pytest

from portal.accounts.models import Team
from portal.keyset import BadCursor, paginate

pytestmark = pytest.mark.django_db
ORDERS = [("name", "id"), ("-name", "-id"), ("name", "-id"), ("-id",)]


@pytest.fixture
def teams():
    for number in range(23):
        Team.objects.create(slug=f"team-{number}", name=f"name-{number % 4}")


def walk(order, towards, cursor=""):
    pages = []
    while cursor is not None:
        page = paginate(Team.objects.all(), order=order, cursor=cursor, limit=5, salt="t")
        pages.append([row.pk for row in page.rows])
        cursor, last = getattr(page, towards), page
    return pages, last


@pytest.mark.parametrize("order", ORDERS)
def test_forward_shows_every_row_once_in_order(teams, order):
    pages, _ = walk(order, "next")
    assert [pk for page in pages for pk in page] == list(Team.objects.order_by(*order).values_list("pk", flat=True))


@pytest.mark.parametrize("order", ORDERS)
def test_backward_shows_the_same_pages(teams, order):
    forward, last = walk(order, "next")
    backward, first = walk(order, "previous", last.previous)
    assert backward[::-1] == forward[:-1]
    assert first.next is not None


def test_the_ends_have_no_further_page(teams):
    _, last = walk(("-id",), "next")
    assert last.next is None
    assert paginate(Team.objects.all(), order=("-id",), cursor="", limit=5, salt="t").previous is None


def test_a_row_that_appears_meanwhile_moves_nothing(teams):
    first = paginate(Team.objects.all(), order=("-id",), cursor="", limit=5, salt="t")
    Team.objects.create(slug="late", name="late")
    second = paginate(Team.objects.all(), order=("-id",), cursor=first.next, limit=5, salt="t")
    assert not {row.pk for row in first.rows} & {row.pk for row in second.rows}


def test_an_altered_cursor_is_refused(teams):
    with pytest.raises(BadCursor):
        paginate(Team.objects.all(), order=("-id",), cursor="nonsense", limit=5, salt="t")


@pytest.mark.parametrize(("order", "salt"), [(("name", "id"), "t"), (("-id",), "another team")])
def test_a_cursor_for_another_list_or_order_is_refused(teams, order, salt):
    cursor = paginate(Team.objects.all(), order=("-id",), cursor="", limit=5, salt="t").next
    with pytest.raises(BadCursor):
        paginate(Team.objects.all(), order=order, cursor=cursor, limit=5, salt=salt)
