"""A release: what it is made of, and that the one file is a whole engine."""

import hashlib
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import pytest

from engines.agent import package
from tests.agent.process import ROOT, SOURCE_TREE

ARCHIVE = "inferencesh-engine-v1.2.3-linux-amd64"


def manifest(path):
    return json.loads((path / "manifest.json").read_text())


@pytest.fixture
def program(dist, bare_python):
    return [bare_python, str(dist / "v1.2.3" / "inferencesh-engine")]


def test_a_bare_python_runs_the_file(program):
    done = subprocess.run([*program, "version"], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("v1.2.3\n", "")


def test_the_file_is_executable_by_itself(dist):
    done = subprocess.run([dist / "v1.2.3" / "inferencesh-engine", "version"], capture_output=True, timeout=20)
    assert done.stdout == b"v1.2.3\n"


def test_the_file_serves_and_runs_tasks(start, plane, program):
    start(program=program)
    line = plane.connection()
    assert line.wait("hello")["version"] == "v1.2.3"
    line.assign("t1", "checksum", megabytes=1)
    assert line.wait("task_result")["status"] == "completed"


def test_an_engine_goes_on_while_another_file_takes_its_place(start, plane, program, tmp_path):
    file = tmp_path / "engine"
    file.write_bytes(Path(program[1]).read_bytes())
    start(program=[program[0], str(file)])
    line = plane.connection()
    (tmp_path / "other").write_text("not a zip at all")
    (tmp_path / "other").replace(file)
    line.assign("t1", "render", width=8, height=8)
    assert line.wait("task_result")["status"] == "completed"


def test_what_lies_in_the_current_directory_is_not_imported(start, plane, program, tmp_path):
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "__init__.py").write_text("raise SystemExit('taken in')")
    start(program=program)
    line = plane.connection()
    line.assign("t1", seconds=0)
    assert line.wait("task_result")["status"] == "completed"


def test_a_python_that_is_too_old_is_told_so(dist):
    start = zipfile.ZipFile(dist / "v1.2.3" / "inferencesh-engine").read("__main__.py").decode()
    old = start.replace("import sys\n", "import sys\nsys.version_info = (3, 9)\n", 1)
    done = subprocess.run([SOURCE_TREE[0], "-c", old], capture_output=True, text=True, timeout=20)
    assert "needs Python 3.11 or newer" in done.stderr


def test_nothing_compiled_is_inside(dist):
    names = zipfile.ZipFile(dist / "v1.2.3" / "inferencesh-engine").namelist()
    assert {"engines/wire.py", "websockets/asyncio/client.py"} < set(names)
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_the_licences_come_along(dist):
    names = zipfile.ZipFile(dist / "v1.2.3" / "inferencesh-engine").namelist()
    licensed = {name.partition("-")[0] for name in names if ".dist-info/" in name}
    assert licensed == set(package.PACKAGES)


def test_the_archive_holds_one_file_of_its_own_name(dist):
    with tarfile.open(dist / "v1.2.3" / f"{ARCHIVE}.tar.gz") as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode) == (ARCHIVE, 0o755)
        assert archive.extractfile(member).read() == (dist / "v1.2.3" / "inferencesh-engine").read_bytes()


def test_the_manifest_is_compact_and_gives_the_sum(dist):
    text = (dist / "manifest.json").read_text()
    assert " " not in text
    archive = (dist / "v1.2.3" / f"{ARCHIVE}.tar.gz").read_bytes()
    build = manifest(dist)["builds"]["linux-amd64"]
    assert build["binaryName"] == ARCHIVE
    assert build["sha256"] == hashlib.sha256(archive).hexdigest()


@pytest.mark.parametrize("base_url", ["", "https://dist.example.com/engine/"])
def test_each_manifest_leads_to_the_archive(tmp_path, base_url):
    package.build("v2.0.0-rc.1", tmp_path, base_url, "canary")
    for folder in ("canary", "v2.0.0-rc.1"):
        here = f"https://dist.example.com/engine/{folder}/manifest.json"
        found = urljoin(here, manifest(tmp_path / folder)["builds"]["linux-amd64"]["url"])
        name = "inferencesh-engine-v2.0.0-rc.1-linux-amd64.tar.gz"
        assert found == f"https://dist.example.com/engine/v2.0.0-rc.1/{name}"


def test_a_canary_is_not_the_head_of_stable(tmp_path):
    package.build("v1.0.0", tmp_path)
    package.build("v1.1.0", tmp_path, channel="canary")
    assert [manifest(tmp_path / folder)["version"] for folder in (".", "canary")] == ["v1.0.0", "v1.1.0"]


def test_the_same_input_gives_the_same_bytes(dist, tmp_path):
    package.build("v1.2.3", tmp_path)
    for name in ("inferencesh-engine", f"{ARCHIVE}.tar.gz", "checksums.txt"):
        assert (tmp_path / "v1.2.3" / name).read_bytes() == (dist / "v1.2.3" / name).read_bytes()


def test_the_command_line_says_where_the_file_is(tmp_path):
    command = [SOURCE_TREE[0], "-m", "engines.agent.package", "--version", "v3.0.0", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.stdout == f"{tmp_path}/v3.0.0/inferencesh-engine\n"


@pytest.mark.parametrize("version", ["latest", "v1.2", "../v1.2.3"])
def test_a_version_that_is_none_is_refused(tmp_path, version):
    with pytest.raises(ValueError, match=r"not valid SemVer"):
        package.build(version, tmp_path)
    assert list(tmp_path.iterdir()) == []
