"""The cast of tests/engines: one engine with an operation of Olga's, and Mallory's team beside it."""

from tests.engines.conftest import api, engine, olgas_key, operation  # noqa: F401  # fixtures
