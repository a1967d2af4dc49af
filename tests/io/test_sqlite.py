"""What a gateway loads to use its database."""

import subprocess
import sys

_LOOKS = """
import sys
import gateway.cli.run
print("sqlite_utils" in sys.modules, "numpy" in sys.modules)
import gateway.core.zone_filter
print("numpy" in sys.modules)
"""


def test_numpy_is_loaded_when_a_floor_needs_it_and_not_before() -> None:
    """Twelve megabytes in each gateway whose shop is known by its anchors."""
    done = subprocess.run([sys.executable, "-c", _LOOKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]
