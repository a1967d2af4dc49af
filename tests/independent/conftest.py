"""When a test here fails, what its processes said is part of the report, as for those of the whole line."""

from tests.e2e.conftest import pytest_runtest_makereport  # noqa: F401 -- a hook, found by its name
