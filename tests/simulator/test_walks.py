"""The fixed walks: positioning must not get worse on them than it was when somebody looked last."""

import subprocess
from math import inf
from pathlib import Path

import pytest

from gateway.simulator.floor_plan import Point
from gateway.simulator.plan_file import built_in_plan
from tests.simulator.walks import SETS, Figures, Stay, Told, WalkSet, evaluate, listen, stored, worse


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("walks", SETS, ids=lambda walks: walks.name)
def test_no_figure_is_worse_than_the_stored_one(walks: WalkSet) -> None:
    complaints = worse(evaluate(listen(walks), built_in_plan(walks.plan)), stored()[walks.name])
    assert not complaints, "\n".join([*complaints, "If it is meant to be so: scripts/walks --write"])


def test_every_set_has_stored_figures_and_no_other() -> None:
    assert list(stored()) == [walks.name for walks in SETS]


PLAN = built_in_plan("demo-shop")
TRUE = (Stay("bakery", 0, 20_000), Stay("dairy", 20_000, 40_000))


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        pytest.param(
            (Stay("bakery", 0, 20_000), Stay("dairy", 20_000, inf)),
            {"accuracy": 1.0, "wrong_stays": 0.0, "changes_per_true_change": 1.0, "enter_delay_s_p95": 0.0},
            id="perfect",
        ),
        pytest.param(
            (Stay("bakery", 2_000, 24_000), Stay("dairy", 24_000, inf)),
            {"accuracy": 0.85, "wrong_stays": 0.0, "enter_delay_s_p50": 2.0, "enter_delay_s_p95": 4.0},
            id="late",
        ),
        pytest.param(
            (Stay("bakery", 0, inf),),
            {"accuracy": 0.5, "changes_per_true_change": 0.0, "enter_delay_s_p95": None, "never_entered": 0.5},
            id="stuck",
        ),
        pytest.param(
            (Stay("bakery", 0, 5_000), Stay("dairy", 5_000, 10_000), Stay("bakery", 10_000, 20_000), Stay("dairy", 20_000, inf)),
            {"accuracy": 0.875, "wrong_stays": 0.25, "changes_per_true_change": 3.0, "changes_per_10min": 45.0},
            id="flapping",
        ),
        pytest.param((), {"accuracy": 0.0, "wrong_stays": 0.0, "never_entered": 1.0}, id="nothing said"),
        pytest.param(
            (Stay("wine", 0, 20_000), Stay("dairy", 20_000, inf)), {"accuracy": 0.5, "accuracy_1m": 0.75}, id="next door"
        ),
    ],
)
def test_figures_mean_what_their_names_say(announced: tuple[Stay, ...], expected: dict[str, float | None]) -> None:
    def near_the_wine_for_ten_seconds(at_ms: int) -> Point:
        return Point(15.5, 12.0) if at_ms < 10_000 else Point(12.0, 12.0)

    figures = evaluate([Told(0, announced, TRUE, near_the_wine_for_ten_seconds)], PLAN)
    assert {name: getattr(figures, name) for name in expected} == expected


GOOD = Figures(0.8, 0.9, 0.1, 1.2, 5.0, 1.0, 2.0, 0.01)


@pytest.mark.parametrize(
    ("now", "complaints"),
    [
        pytest.param(GOOD, 0, id="the same"),
        pytest.param(Figures(0.9, 0.95, 0.0, 1.0, 3.0, 0.0, 1.0, 0.0), 0, id="better"),
        pytest.param(Figures(0.79, 0.89, 0.12, 1.25, 5.4, 2.0, 4.0, 0.03), 0, id="hardly worse"),
        pytest.param(Figures(0.7, 0.8, 0.1, 1.2, 5.0, 1.0, 2.0, 0.01), 2, id="wrong zones"),
        pytest.param(Figures(0.8, 0.9, 0.2, 1.2, 5.0, 1.0, 2.0, 0.01), 1, id="wrong stays"),
        pytest.param(Figures(0.8, 0.9, 0.1, 1.4, 6.0, 1.0, 2.0, 0.01), 2, id="flapping"),
        pytest.param(Figures(0.8, 0.9, 0.1, 1.2, 5.0, 3.0, None, 0.1), 3, id="late and never"),
    ],
)
def test_worse_is_said_and_better_is_not(now: Figures, complaints: int) -> None:
    before = {name: getattr(GOOD, name) for name in Figures.__slots__}
    assert len(worse(now, before)) == complaints


@pytest.mark.parametrize("script", ["walks", "body-model"])
def test_the_scripts_explain_themselves_and_refuse_what_they_do_not_know(script: str) -> None:
    path = Path(__file__).parents[2] / "scripts" / script
    told = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: scripts/{script}")
    refused = subprocess.run([path, "--wrong"], capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"scripts/{script} does not know --wrong; see scripts/{script} --help.\n"
