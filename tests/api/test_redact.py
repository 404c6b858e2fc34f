import pytest

from engines.api.redact import raw_for_people, redact


@pytest.mark.parametrize(
    "name", ["api_key", "key", "token", "agent_token", "password", "client_secret", "base64_script"]
)
def test_what_is_named_like_a_secret_is_blanked_wherever_it_is(name: str) -> None:
    assert redact({"a": [{"b": {name: "hush"}}]}) == {"a": [{"b": {name: ""}}]}


@pytest.mark.parametrize(
    "value", [{"public_key": "p"}, {"ssh_key_id": "s"}, {"tokens": 5}, {"key": {"scopes": ["a"]}}, {"next_cursor": "c"}]
)
def test_what_is_no_secret_stays(value: object) -> None:
    assert redact(value) == value


@pytest.mark.parametrize(
    ("envs", "blank"),
    [
        ([{"name": "HF", "value": "hush"}], [{"name": "HF", "value": ""}]),
        ({"HF": "hush"}, {"HF": ""}),
        (["HF=hush"], [""]),
        (None, None),
        ("HF=hush", ""),
    ],
)
def test_environments_keep_their_names_only(envs: object, blank: object) -> None:
    assert redact({"instance": {"envs": envs}}) == {"instance": {"envs": blank}}


@pytest.mark.parametrize("text", ["not JSON: inf_abc-123", "Authorization: Bearer abc.def", '{"detail": "inf_abc"}'])
def test_keys_in_a_text_are_masked(text: str) -> None:
    assert "abc" not in raw_for_people(text)
