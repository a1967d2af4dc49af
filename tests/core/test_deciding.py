"""Who decides: claims, and every order in which news of them can travel, against a model that knows everything."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.deciding import LAST_TERM, Claim, Deciding


@pytest.mark.parametrize(
    ("claim", "other", "beats"),
    [
        (Claim(1, "a"), None, True),
        (Claim(0, "a"), None, True),
        (Claim(2, "b"), Claim(1, "a"), True),
        (Claim(1, "a"), Claim(2, "b"), False),
        (Claim(1, "a"), Claim(1, "b"), True),
        (Claim(1, "b"), Claim(1, "a"), False),
        (Claim(1, "a"), Claim(1, "a"), False),
    ],
)
def test_of_two_claims_the_same_one_is_greater_for_everybody(claim: Claim, other: Claim | None, beats: bool) -> None:
    assert claim.beats(other) is beats


def test_where_nobody_decides_one_that_may_begins() -> None:
    alone = Deciding("pi-1", None, may_begin=True)
    assert alone.is_mine
    assert alone.begin()
    assert (alone.claim, alone.is_mine) == (Claim(1, "pi-1"), True)
    assert not alone.begin(), "once"


def test_a_newcomer_yields_to_whoever_decides_already() -> None:
    newcomer = Deciding("pi-0", None, may_begin=True)
    assert newcomer.hear(Claim(1, "pi-1"))
    assert not newcomer.begin()
    assert (newcomer.claim, newcomer.is_mine) == (Claim(1, "pi-1"), False)


def test_one_that_only_receives_begins_nothing_and_takes_over_when_told() -> None:
    receiving = Deciding("pi-2", None, may_begin=False)
    assert not receiving.begin()
    assert (receiving.claim, receiving.is_mine) == (None, False)
    assert receiving.take_over()
    assert (receiving.claim, receiving.is_mine) == (Claim(2, "pi-2"), True)


def test_a_takeover_beats_one_who_begins_at_that_moment() -> None:
    """The first hangs between its birth and its first claim; its name comes first, which must not matter."""
    first, second = Deciding("pi-1", None, may_begin=True), Deciding("pi-2", None, may_begin=False)
    assert first.claim is not None
    second.hear(first.claim)
    assert second.take_over()
    assert first.begin()
    assert second.claim is not None
    assert first.hear(second.claim)
    assert not second.hear(Claim(1, "pi-1"))
    assert (first.is_mine, second.is_mine) == (False, True)


def test_after_a_restart_it_is_what_it_was() -> None:
    for claim, is_mine in ((Claim(3, "pi-1"), True), (Claim(3, "pi-2"), False)):
        again = Deciding("pi-1", claim, may_begin=True)
        assert not again.begin()
        assert (again.claim, again.is_mine) == (claim, is_mine)


def test_no_term_is_left_above_the_last() -> None:
    last = Deciding("pi-1", Claim(LAST_TERM, "pi-2"), may_begin=True)
    assert not last.take_over()
    assert last.claim == Claim(LAST_TERM, "pi-2")


@dataclass
class Gateway:
    """One gateway; what it has on disk, and what it has told that others may still hear, in any order and more than once."""

    deciding: Deciding
    may_begin: bool
    told: list[Claim] = field(default_factory=list)

    def tell(self) -> None:
        if self.deciding.claim is not None:
            self.told.append(self.deciding.claim)


NAMES = st.sampled_from(["pi-1", "pi-2", "pi-3"])


class Takeovers(RuleBasedStateMachine):
    """Three gateways and central; news is lost, doubled, late and disordered. The model: the set of all claims ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.gateways = {
            name: Gateway(Deciding(name, None, may_begin=name != "pi-3"), name != "pi-3") for name in ("pi-1", "pi-2", "pi-3")
        }
        self.made: set[Claim] = set()
        self.central: Claim | None = None
        for name in self.gateways:
            self._note(name)

    def _note(self, name: str) -> None:
        gateway = self.gateways[name]
        claim = gateway.deciding.claim
        if claim is not None and claim.gateway == name:
            self.made.add(claim)
        gateway.tell()

    @rule(name=NAMES)
    def take_over(self, name: str) -> None:
        deciding = self.gateways[name].deciding
        before = deciding.claim
        assert deciding.take_over()
        assert deciding.is_mine
        assert deciding.claim is not None
        assert deciding.claim.beats(before)
        self._note(name)

    @rule(name=NAMES)
    def look_and_begin(self, name: str) -> None:
        self.gateways[name].deciding.begin()
        self._note(name)

    @rule(name=NAMES, teller=NAMES, which=st.integers(0, 1000))
    def hear(self, name: str, teller: str, which: int) -> None:
        told = self.gateways[teller].told
        if told:
            self.gateways[name].deciding.hear(told[which % len(told)])
            self.gateways[name].tell()

    @rule(teller=NAMES, which=st.integers(0, 1000))
    def central_hears(self, teller: str, which: int) -> None:
        told = self.gateways[teller].told
        if told and told[which % len(told)].beats(self.central):
            self.central = told[which % len(told)]

    @rule(name=NAMES, keeps_file=st.booleans())
    def restart(self, name: str, keeps_file: bool) -> None:
        gateway = self.gateways[name]
        claim = gateway.deciding.claim if keeps_file else None
        gateway.deciding = Deciding(name, claim, may_begin=gateway.may_begin)
        # A gateway that lost its file finds what it said itself at the broker.
        if not keeps_file and gateway.told:
            gateway.deciding.hear(gateway.told[-1])
        self._note(name)

    @invariant()
    def whoever_knows_the_same_knows_the_same_decider(self) -> None:
        by_claim: dict[Claim, list[str]] = {}
        for name, gateway in self.gateways.items():
            if gateway.deciding.claim is not None and gateway.deciding.is_mine:
                by_claim.setdefault(gateway.deciding.claim, []).append(name)
        assert all(len(names) == 1 for names in by_claim.values())

    @invariant()
    def nothing_is_known_that_nobody_claimed(self) -> None:
        known = [gateway.deciding.claim for gateway in self.gateways.values()] + [self.central]
        assert {claim for claim in known if claim is not None} <= self.made

    @invariant()
    def once_all_is_told_the_greatest_of_all_decides_and_gets_the_grants(self) -> None:
        told = [claim for gateway in self.gateways.values() for claim in gateway.told]
        copies = {name: Deciding(name, gateway.deciding.claim, may_begin=False) for name, gateway in self.gateways.items()}
        central = self.central
        for claim in told:
            for copy in copies.values():
                copy.hear(claim)
            central = claim if claim.beats(central) else central
        greatest = max(told, key=lambda claim: (claim.term, [-ord(letter) for letter in claim.gateway]))
        assert {copy.claim for copy in copies.values()} == {greatest} == {central}
        assert [name for name, copy in copies.items() if copy.is_mine] == [greatest.gateway]


Takeovers.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTakeovers = Takeovers.TestCase
