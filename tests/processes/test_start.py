"""What a control plane has done by the time it answers."""

import pytest

pytestmark = pytest.mark.processes

MOST_OF_IT = 0.9 * 10_000 * 4096  # bytes: what fits into memory is not written


def test_no_commit_has_to_lengthen_sqlites_log(stack):
    log = (stack.place.data / "controlplane.sqlite3-wal").stat()
    assert log.st_size > MOST_OF_IT
    assert log.st_blocks * 512 > MOST_OF_IT
