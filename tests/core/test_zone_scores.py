"""Scores: counted by hand on little walks, so that a figure means what it says."""

from collections.abc import Iterable, Sequence

import pytest

from gateway.core.zone_model import Point, RecordedSighting, ShopPlan
from gateway.core.zone_scores import EMISSION_MS, Score, Tick, announcements, pooled, score
from tests.core.walked_shop import OUTLINES, PLAN

LETTERS = {"b": "bakery", "d": "dairy", "-": None}


def ticks(announced: str, true: str, places: Sequence[Point | None] | None = None) -> list[Tick]:
    """One letter a second; ``?`` in ``true``: not known."""
    return [
        Tick(1000 * n, LETTERS[said], LETTERS.get(was), was != "?", None if places is None else places[n])
        for n, (said, was) in enumerate(zip(announced, true, strict=True))
    ]


@pytest.mark.parametrize(
    ("announced", "true", "expected"),
    [
        pytest.param("bbbbdddd", "bbbbdddd", Score(8, 8, 0, 0, 8, 1, 1, 2, 0, (0.0, 0.0)), id="perfect"),
        pytest.param(
            "--bbbdddd", "bbbbbdddd", Score(9, 7, 0, 0, 9, 1, 1, 2, 0, (2.0, 0.0)), id="no announcement counts as wrong"
        ),
        pytest.param("bbbbbbdd", "bbbbdddd", Score(8, 6, 0, 0, 8, 1, 1, 2, 0, (0.0, 2.0)), id="late"),
        pytest.param("bbbbbbbb", "bbbbdddd", Score(8, 4, 0, 0, 8, 1, 0, 1, 0, (0.0, None)), id="never"),
        pytest.param("bbdbbbbb", "bbbbbbbb", Score(8, 7, 0, 0, 8, 0, 2, 3, 1, (0.0,)), id="there and back"),
        pytest.param("bbbbbdbb", "bbbdbbbb", Score(8, 6, 0, 0, 8, 2, 2, 3, 0, (0.0, 0.0)), id="just left: 2 s late is not wrong"),
        pytest.param("bbbbbbbdb", "bbbdbbbbb", Score(9, 7, 0, 0, 9, 2, 2, 3, 1, (0.0, 0.0)), id="left for longer is wrong"),
        pytest.param("bb--bb", "bb--bb", Score(6, 6, 0, 0, 6, 2, 2, 2, 0, (0.0, 0.0)), id="outside of all, rightly"),
        pytest.param("bbdd", "??dd", Score(2, 2, 0, 0, 4, 0, 1, 2, 0, (0.0,)), id="what is not known is not judged"),
    ],
)
def test_counts(announced: str, true: str, expected: Score) -> None:
    assert score(ticks(announced, true), ShopPlan()) == expected


def test_a_zone_within_one_metre_counts_where_the_position_is_known() -> None:
    places: list[Point | None] = [(5.5, 4.0), (4.5, 4.0), None]
    found = score(ticks("ddd", "bbb", places), PLAN)
    assert (found.near, found.near_ticks, found.right) == (1, 2, 0)
    assert score(ticks("ddd", "bbb", places), ShopPlan()).accuracy_1m is None


def test_shares_of_nothing_are_absent() -> None:
    nothing = Score()
    assert (nothing.accuracy, nothing.changes_per_true_change, nothing.changes_per_10min, nothing.delay_s(50)) == (None,) * 4


@pytest.mark.parametrize(("percent", "delay_s"), [(20, 1.0), (50, 3.0), (60, 3.0), (80, 4.0), (81, None), (95, None)])
def test_delays_that_never_end_are_the_longest(percent: int, delay_s: float | None) -> None:
    assert Score(delays_s=(4.0, None, 1.0, 3.0, 2.0)).delay_s(percent) == delay_s


def test_recordings_are_pooled_by_their_counts() -> None:
    both = pooled([score(ticks("bbbb", "bbbb"), ShopPlan()), score(ticks("bb", "dd"), ShopPlan())])
    assert (both.ticks, both.right, both.stays, both.wrong_stays, both.delays_s) == (6, 4, 2, 1, (0.0, None))


class _Parrot:
    """Believes each shopper in the zone that the newest sighting's anchor names."""

    zones = ("bakery", "dairy")

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self._new: dict[str, RecordedSighting] = {}

    def observe(self, sighting: RecordedSighting) -> None:
        self._new[sighting.shopper] = sighting

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        new, self._new = self._new, {}
        for shopper, sighting in new.items():
            self.seen.append((sighting.t_ms, now_ms))
            yield shopper, [float(sighting.anchor == zone) for zone in self.zones] + [0.0]


def test_nothing_is_known_before_it_was_heard() -> None:
    parrot = _Parrot()
    recorded = [RecordedSighting(t_ms, "anna", "bakery" if t_ms < 2600 else "dairy", -60.0) for t_ms in range(500, 6000, 70)]
    (found,) = announcements(recorded, parrot).values()
    assert all(heard_ms <= known_ms + EMISSION_MS for heard_ms, known_ms in parrot.seen)
    assert [tick.t_ms for tick in found] == [500, 1500, 2500, 3500, 4500, 5500]
    assert [tick.announced for tick in found] == ["bakery", "bakery", "bakery", "dairy", "dairy", "dairy"]


def test_shoppers_of_one_recording_are_judged_each_from_its_first_sighting() -> None:
    recorded = [RecordedSighting(t_ms, "anna", "bakery", -60.0) for t_ms in range(0, 3001, 500)]
    recorded += [RecordedSighting(t_ms, "bert", "dairy", -60.0) for t_ms in range(1250, 3001, 500)]
    found = announcements(recorded, _Parrot())
    assert [tick.t_ms for tick in found["bert"]] == [1250, 2250]
    assert {tick.announced for tick in found["anna"]} == {"bakery"}
    assert {tick.announced for tick in found["bert"]} == {"dairy"}


def test_a_long_silence_is_no_time_in_the_shop() -> None:
    """Whoever comes again after a day, by the recording, costs no day of ticks; a short silence changes nothing."""
    begin_ms = 24 * 3600 * 1000 + 700
    times = [0, 400, 100_000, begin_ms, begin_ms + 1000]
    (found,) = announcements([RecordedSighting(t_ms, "anna", "bakery", -60.0, "bakery") for t_ms in times], _Parrot()).values()
    begun_ms = begin_ms + 300
    assert [tick.t_ms for tick in found] == [*range(0, 220_001, 1000), begun_ms]
    assert found[-1].is_known
    assert not found[-2].is_known


def test_polygons_may_be_missing() -> None:
    assert ShopPlan(zones=OUTLINES).zone_at((1.0, 1.0)) == "bakery"
    assert ShopPlan().zone_at((1.0, 1.0)) is None
