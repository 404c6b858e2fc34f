"""An engine that is killed takes its tasks along."""

import os
import select

from tests.agent.scripted import PATIENCE


def test_a_task_does_not_outlive_its_engine(engine, line):
    line.assign("t1", seconds=30)
    line.wait("task_update")
    (pid,) = engine.children()
    handle = os.pidfd_open(pid)  # not our child, so there is nothing to wait for but this
    engine.end()
    assert select.select([handle], [], [], PATIENCE)[0]
    os.close(handle)
