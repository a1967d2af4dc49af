"""The encoder that app developers port: alone in its file, and byte for byte what the gateway reads."""

import ast
import runpy
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ad_structures, token
from gateway.core.frames import shopper
from gateway.core.model import ShopperToken
from tests.e2e.world import ROOT

PROGRAM = ROOT / "docs" / "examples" / "token_encoder.py"
ENCODER: dict[str, Any] = runpy.run_path(str(PROGRAM))

KEYS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**32 - 1)
MOMENTS = st.integers(86_400, 2**32 * 15)
QUARTERS = st.integers(-95, 95).map(lambda quarters: 900 * quarters)
TOKENS = st.binary(min_size=16, max_size=16)
IDENTIFIERS = st.integers(0, 0xFFFF)
POWERS = st.integers(-128, 127)


def test_it_needs_nothing_but_the_standard_library() -> None:
    syntax = list(ast.walk(ast.parse(PROGRAM.read_text("utf-8"))))
    assert not [node for node in syntax if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in syntax if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names


@given(KEYS, NUMBERS, MOMENTS, QUARTERS, st.integers(0, 63), st.integers(0, 15), st.integers(0, 15), st.integers(0, 0xFFFE))
def test_it_makes_the_token_that_the_gateway_opens(
    ku: bytes, store: int, unix_s: int, day_start_s: int, flags: int, slot: int, bucket: int, hint: int
) -> None:
    window, day = ENCODER["window_at"](unix_s), ENCODER["day_at"](unix_s, day_start_s)
    assert (window, day) == (token.window_of(unix_s), token.day_of(window, day_start_s))
    assert ENCODER["slot_at"](unix_s) == token.slot_of(unix_s)
    assert ENCODER["pseudonym"](ku, store, day) == token.derive_pseudonym(ku, store, day)
    key = ENCODER["day_key"](ku, store, day)
    assert key == token.derive_day_key(ku, store, day)
    on_the_air = ENCODER["token"](key, window, ENCODER["payload"](flags, slot, bucket, hint))
    opened = token.open_token(token.derive_subkeys(key), window, on_the_air)
    assert opened == token.TokenPayload(flags, slot, bucket, hint)
    assert on_the_air == token.seal_token(token.derive_subkeys(key), window, opened)


@given(TOKENS, IDENTIFIERS, POWERS)
def test_its_forms_are_those_of_the_gateway(sixteen: bytes, identifier: int, power: int) -> None:
    def of(form: Any, tx: int | None, **identifiers: int) -> bytes:
        return ad_structures.encode([shopper.encode(ShopperToken(form, sixteen, tx), **identifiers)])

    assert ENCODER["form_u"](sixteen) == of("U", None)
    assert ENCODER["form_s"](sixteen, identifier, power) == of("S", power, service_uuid16=identifier)
    assert ENCODER["form_m"](sixteen, identifier, power) == of("M", power, company_id=identifier)
    assert bytes.fromhex(ENCODER["uuid_of"](sixteen).replace("-", "")) == sixteen


@given(st.floats(-200, 50))
def test_its_buckets_are_those_of_the_gateway(rssi_dbm: float) -> None:
    assert ENCODER["bucket_of"](rssi_dbm) == token.bucket_of_rssi(rssi_dbm)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--key", "00"], "--key"),
        (["--key", "00" * 32, "--flags", "64"], "flags 0 … 63"),
        (["--key", "00" * 32, "--hint", "7"], "go together"),
        (["--key", "00" * 32, "--hint", "65535", "--hint-rssi", "-60"], "hint 0 … 65534"),
        (["--key", "00" * 32, "--store", "-1"], "negative"),
        (["--key", "00" * 32, "--uuid16", "0x10000"], "too big"),
    ],
)
def test_a_wrong_call_ends_with_2_and_a_sentence(wrong: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "--store", "1", "--unix", "1790000437", *wrong], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]
