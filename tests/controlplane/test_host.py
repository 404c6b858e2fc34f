"""What an engine says about its host, completed to the contract's SystemInfo."""

from engines.controlplane import host


def test_what_is_missing_is_its_types_zero():
    found = host.complete({"hostname": "gpu-1", "docker": {"running": True}, "cpus": [{"name": "EPYC"}]})
    assert (found["hostname"], found["wsl2"]["version"], found["ram"]["total"], found["gpus"]) == ("gpu-1", "", 0, [])
    assert (found["docker"]["running"], found["docker"]["version"]) == (True, "")
    assert (found["cpus"][0]["name"], found["cpus"][0]["cores"]) == ("EPYC", 0)


def test_what_has_another_type_is_as_missing():
    found = host.complete({"os": 7, "docker": "yes", "cpus": {}, "ram": {"total": True}, "gpus": ["A100"]})
    assert (found["os"], found["docker"]["installed"], found["cpus"], found["ram"]["total"]) == ("", False, [], 0)
    assert found["gpus"][0]["name"] == ""


def test_what_the_contract_does_not_know_stays():
    assert host.complete({"ram": {"speed": 3200}})["ram"]["speed"] == 3200
