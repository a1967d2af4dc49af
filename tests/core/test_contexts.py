"""Shoppers' contexts: the newest wins in any order of arrival, and nothing is kept longer than it is needed."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.conditions import ShopperContext
from gateway.core.contexts import KEEP_MS, MOST, Contexts
from tests.core.phones import entries_held_by


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


def test_who_is_forgotten_leaves_nothing() -> None:
    contexts = Contexts()
    empty = entries_held_by(contexts)
    contexts.use("anna", 3, context(3), 0)
    contexts.forget(["anna", "nobody"])
    assert (contexts.of("anna", 1), contexts.held("anna"), contexts.shoppers, len(contexts)) == (None, None, (), 0)
    assert entries_held_by(contexts) == empty


def test_it_is_kept_while_the_visit_lasts_or_somebody_asks_and_not_longer() -> None:
    contexts = Contexts()
    for shopper in ("anna", "ben", "zoe"):
        contexts.use(shopper, 1, context(1), 0)
    contexts.of("anna", KEEP_MS)
    contexts.expire(KEEP_MS + 1, lambda shopper: shopper == "zoe")
    assert [*contexts.shoppers] == ["anna", "zoe"]
    contexts.expire(2 * KEEP_MS + 1, lambda _: False)
    assert [*contexts.shoppers] == ["zoe"]
    contexts.held("zoe")
    contexts.expire(2 * KEEP_MS + 2, lambda _: False)
    assert len(contexts) == 0, "to explain is no reason to keep"


def test_a_flood_pushes_out_the_oldest() -> None:
    contexts = Contexts()
    for number in range(MOST + 5):
        contexts.use(f"s{number}", 1, context(1), number)
    assert len(contexts) == MOST
    assert contexts.of("s4", 0) is None
    assert contexts.of("s5", 0) == context(1)
