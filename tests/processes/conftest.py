"""One stack for all tests of the folder: it takes some seconds to start. What a test kills it starts again."""

import pytest

from tests.harness import Stack, place


@pytest.fixture(scope="session")
def stack():
    with place() as one, Stack(one) as running:
        yield running
