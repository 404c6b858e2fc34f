"""A stream between two reads: merged, bounded, and over when it is over."""

import asyncio
import json

from portal.live.stream import DOWN, TOPICS_LIMIT, UP, News, Stream, news_from
from portal.live.viewers import Viewer


def stream() -> Stream:
    return Stream(Viewer("session", 1, "hash", team_id=1, role="viewer"))


def read(slow: Stream) -> bytes:
    return asyncio.run(asyncio.wait_for(slow.next(), 1))


def test_a_slow_reader_finds_its_topics_merged() -> None:
    slow = stream()
    for topic in ("engines", "audit", "engines"):
        slow.tell(news_from([topic]))
    assert read(slow) == b'data: {"topics": ["audit", "engines"]}\n\n'


def test_a_very_slow_reader_is_told_to_look_everything_up() -> None:
    slow = stream()
    for number in range(TOPICS_LIMIT * 10):
        slow.tell(news_from([f"engine:{number}"]))
    topics = json.loads(read(slow).removeprefix(b"data: "))["topics"]
    assert "poll" in topics
    assert len(topics) <= TOPICS_LIMIT


def test_one_message_with_too_many_topics_is_cut_down_too() -> None:
    assert news_from(range(TOPICS_LIMIT + 1)) == News(frozenset({"poll"}))


def test_what_was_read_is_not_read_again() -> None:
    slow = stream()
    slow.tell(news_from(["engines"]))
    read(slow)
    slow.tell(news_from(["audit"]))
    assert read(slow) == b'data: {"topics": ["audit"]}\n\n'


def test_of_several_states_the_last_one_comes_before_the_news() -> None:
    slow = stream()
    slow.signal(DOWN)
    slow.tell(news_from(["engines"]))
    slow.signal(UP)
    assert read(slow) == UP + b'data: {"topics": ["engines"]}\n\n'


def test_an_ended_stream_says_nothing_more() -> None:
    slow = stream()
    slow.tell(news_from(["engines"]))
    slow.end()
    assert read(slow) == b""
