"""What an engine takes from flags, environment and file."""

import asyncio
import pickle

import pytest

from engines import wire
from engines.agent.config import ApiKey, ConfigError, load
from engines.agent.serve import serve

FLAGS = {"api_url": "https://api.example.com/", "name": "gpu box 7"}
ENVIRON = {"INFERENCE_API_KEY": "inf_secret", "XDG_STATE_HOME": "/state"}


def from_file(tmp_path, text, **flags):
    file = tmp_path / "engine.toml"
    file.write_text(text)
    return load({**FLAGS, **flags, "config": str(file)}, ENVIRON)


def test_the_key_comes_from_the_environment():
    assert load(FLAGS, ENVIRON).api_key.reveal() == "inf_secret"


def test_without_a_key_it_says_where_to_put_one():
    with pytest.raises(ConfigError, match="set INFERENCE_API_KEY"):
        load(FLAGS, {})


def test_the_key_does_not_print():
    config = load(FLAGS, ENVIRON)
    assert "inf_secret" not in f"{config} {config.shown()} {config.api_key!s}"


def test_the_key_is_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(ApiKey("inf_secret"))


def test_an_api_over_tls_has_its_socket_over_tls():
    assert load(FLAGS, ENVIRON).socket_url == "wss://api.example.com"


def test_that_a_key_travels_unprotected_is_said(tmp_path, capsys):
    (tmp_path / "state").write_text("in the way: it ends at once")
    flags = {"api_url": "http://api.example.com", "state_dir": str(tmp_path / "state")}
    asyncio.run(serve(load({**FLAGS, **flags}, ENVIRON)))
    assert "the key travels unprotected" in "".join(capsys.readouterr())


def test_each_name_has_its_own_state_directory():
    assert str(load(FLAGS, ENVIRON).state_dir) == "/state/engines-agent/gpu-box-7"


def test_two_cpu_workers_are_the_default():
    assert load(FLAGS, ENVIRON).workers.on_the_wire() == {"gpu": [], "cpu": {"count": 2}}


def test_with_gpu_workers_no_cpu_worker_is_added(tmp_path):
    config = from_file(tmp_path, "[[workers.gpu]]\ngpus = [0, 1]\n")
    assert config.workers.on_the_wire() == {"gpu": [{"gpus": [0, 1]}], "cpu": {"count": 0}}


def test_flags_win_over_the_file(tmp_path):
    assert from_file(tmp_path, 'name = "other"\ngrace = 3\n').name == "gpu box 7"


def test_json_is_read_too(tmp_path):
    (tmp_path / "engine.json").write_text('{"workers": {"cpu": {"count": 5}}}')
    assert load({**FLAGS, "config": str(tmp_path / "engine.json")}, ENVIRON).workers.cpus == 5


def test_heartbeats_may_be_quicker_never_slower(tmp_path):
    assert from_file(tmp_path, "heartbeat_seconds = 600").heartbeat_seconds == wire.HEARTBEAT_SECONDS


def test_no_grace_waits_for_ever():
    assert load(FLAGS, ENVIRON).grace is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker = 1", "settings unknown here: worker"),
        ("grace = -1", "grace must be a number of seconds"),
        ("workers.cpu.count = 0", "no workers"),
        ("workers.cpu.count = 2.5", "whole number"),
        ("workers.gpu = [{gpus = []}]", "a list of GPU indexes"),
        ("name = [", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        from_file(tmp_path, text)


@pytest.mark.parametrize("url", [None, "api.example.com", "ftp://x", "https://u:p@x", "https://x?a=1", "http://[x"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="API address"):
        load({**FLAGS, "api_url": url}, ENVIRON)


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:8001", True), ("http://localhost", True), ("https://127.example.com", False)],
)
def test_it_knows_its_own_host(url, local):
    assert load({**FLAGS, "api_url": url}, ENVIRON).local is local


def test_an_id_may_be_given_by_flag_or_environment():
    by_flag = load({**FLAGS, "engine_id": "eng_flag"}, {**ENVIRON, "ENGINE_ID": "eng_environ"})
    by_environment = load(FLAGS, {**ENVIRON, "ENGINE_ID": "eng_environ"})
    assert (by_flag.engine_id, by_environment.engine_id) == ("eng_flag", "eng_environ")


def test_an_id_that_could_not_stand_in_an_address_is_refused():
    with pytest.raises(ConfigError, match="id may hold letters"):
        load({**FLAGS, "engine_id": "eng/../1"}, ENVIRON)
