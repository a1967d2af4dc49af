"""The radio helper on a real kernel, as the service that is installed: its cost beside bleak's callback, and how it is boxed in.

The figures compare with each other only: the machine is emulated.
"""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.radio, pytest.mark.timeout(2400)]

HEARD_SHARE = 0.95

Json = dict[str, Any]


@pytest.fixture(scope="module")
def cost(jobs: Callable[[str], Json], report: Callable[[str], None]) -> Json:
    results = jobs("cost")
    report(f"cost of an advertisement at 100/s, µs of the emulated processor ({results['took']})")
    for row in results["rows"]:
        parts = ", ".join(f"{name} {us:.0f}" for name, us in row["us"].items())
        report(f"  {row['case']:16} {row['us_per_advertisement']:7.0f} ({parts}); heard {row['heard']} of {row['on_air']}")
    return results


def row_of(cost: Json, case: str) -> Json:
    return next(row for row in cost["rows"] if row["case"] == case)


def test_a_passive_scan_for_nothing_is_heard_in_full_through_the_helper(cost: Json) -> None:
    row = row_of(cost, "helper, passive")
    assert row["heard"] >= HEARD_SHARE * row["on_air"], row


def test_bleak_alone_hears_next_to_nothing_of_constant_beacons_in_a_passive_scan(cost: Json) -> None:
    """What the helper is for; if this changes, so may the advice."""
    row = row_of(cost, "bleak, passive")
    assert row["heard"] <= 0.5 * row["on_air"], row


def test_all_processes_together_need_less_than_with_bleak_s_callback(cost: Json) -> None:
    ours, theirs = row_of(cost, "helper, passive"), row_of(cost, "bleak, active")
    assert ours["us_per_advertisement"] < theirs["us_per_advertisement"], (ours, theirs)


def test_it_holds_no_capability_once_it_listens(cost: Json) -> None:
    assert cost["helper"].split() == ["CapEff:", "0" * 16]


def test_the_gateway_s_account_reaches_it_and_nobody_else(cost: Json) -> None:
    assert cost["socket"] == ["750 gateway-radio gateway", "660 gateway-radio gateway"]
    assert cost["lets in"] == {"gateway": True, "nobody": False}


def test_it_ends_when_it_is_told_to(cost: Json) -> None:
    stopped = cost["stopped"]
    assert (stopped["ActiveState"], stopped["ExecMainStatus"]) == ("inactive", "0"), cost["journal"]
    assert "Traceback" not in cost["journal"]
