"""Other people's devices: well-formed bytes that are none of ours."""

import random

import pytest

from gateway.core.ad_structures import AdStructure, iterate
from gateway.core.frames import Decoder
from gateway.core.model import IBeacon, ShopperToken
from gateway.simulator.floor_plan import Point
from gateway.simulator.strangers import KINDS, Stranger, StrangerKind
from gateway.simulator.walkers import Whereabouts

HERE = Whereabouts(Point(1, 1), 0.0)
EXPECTED = {"foreign app": ShopperToken, "foreign beacon": IBeacon}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_strangers_bytes_fit_the_radio_and_look_like_ours_only_where_they_should(kind: StrangerKind) -> None:
    decoder = Decoder(service_uuid16=0xFFF0, company_id=0xFFFE)
    for seed in range(50):
        address, data = Stranger(kind, random.Random(seed)).advertisement(0, HERE)
        assert 0 < len(data) <= 31
        assert all(isinstance(structure, AdStructure) for structure in iterate(data))
        assert int(address[:2], 16) >> 6 == (0b01 if kind.address == "private" else 0b11)
        frame = decoder.decode(data)
        assert type(frame) is EXPECTED.get(kind.name, type(None))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_private_address_rotates_with_its_contents_and_a_static_one_never(kind: StrangerKind) -> None:
    stranger = Stranger(kind, random.Random(1))
    sent = [stranger.advertisement(at_ms, HERE) for at_ms in range(0, 3_600_000, 60_000)]
    addresses = {address for address, _ in sent}
    assert len(set(sent)) == len(addresses)
    assert 4 <= len(addresses) <= 7 if kind.address == "private" else len(addresses) == 1
