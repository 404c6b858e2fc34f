"""The secret that everything signed hangs on: long enough wherever strangers come, or no start."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import env


@pytest.fixture
def start(monkeypatch):
    def begin(key, *, embedded=False, debug=False):
        monkeypatch.setenv("SECRET_KEY", key)
        monkeypatch.setattr(env, "EMBEDDED", embedded)
        return env.secret_key(debug)

    return begin


def test_a_long_one_is_taken(start):
    assert start("k" * 50) == "k" * 50


def test_a_short_one_is_refused_with_the_way_out_and_is_not_shown(start):
    with pytest.raises(ImproperlyConfigured, match=r"has 49 characters.*token_urlsafe") as refused:
        start("k" * 49)
    assert "kkk" not in str(refused.value)


@pytest.mark.parametrize("where", [{"embedded": True}, {"debug": True}])
def test_on_one_s_own_machine_any_will_do(start, where):
    assert start("short", **where) == "short"
