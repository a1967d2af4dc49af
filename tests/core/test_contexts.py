"""Shoppers' contexts: the newest wins in any order of arrival, and what is forgotten stays forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.conditions import ShopperContext
from gateway.core.contexts import KEEP_MS, MOST, Contexts


def context(version: int) -> ShopperContext:
    return ShopperContext(visits_30_days=version)


@given(st.lists(st.integers(1, 6), min_size=1))
def test_the_newest_wins_in_any_order(versions: list[int]) -> None:
    contexts = Contexts()
    newest = 0
    for at_ms, version in enumerate(versions):
        assert contexts.use("anna", version, context(version), at_ms) is (version > newest)
        newest = max(newest, version)
        assert contexts.of("anna", at_ms) == context(newest)


def test_what_is_forgotten_does_not_come_back_with_an_old_message() -> None:
    contexts = Contexts()
    contexts.use("anna", 3, context(3), 0)
    contexts.forget(["anna", "nobody"])
    assert (contexts.of("anna", 1), len(contexts)) == (None, 0)
    assert not contexts.use("anna", 3, context(3), 2)
    assert contexts.of("anna", 3) is None
    assert contexts.use("anna", 4, context(4), 4)
    assert contexts.of("anna", 5) == context(4)


def test_it_is_kept_while_somebody_asks_and_not_longer() -> None:
    contexts = Contexts()
    contexts.use("anna", 1, context(1), 0)
    contexts.use("ben", 1, context(1), 0)
    contexts.of("anna", KEEP_MS)
    contexts.expire(KEEP_MS + 1)
    assert contexts.of("anna", KEEP_MS + 1) == context(1)
    assert contexts.of("ben", KEEP_MS + 1) is None


def test_a_flood_pushes_out_the_oldest() -> None:
    contexts = Contexts()
    for number in range(MOST + 5):
        contexts.use(f"s{number}", 1, context(1), number)
    assert len(contexts) == MOST
    assert contexts.of("s4", 0) is None
    assert contexts.of("s5", 0) == context(1)
