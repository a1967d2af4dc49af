"""Settings: one TOML file, and whatever is wrong with it is said with what, where and what to do."""

from pathlib import Path
from typing import Any

import pytest

from gateway.contract import settings
from gateway.contract.fields import Strict
from gateway.contract.settings import CentralSettings, Privacy, Settings, read_settings
from gateway.contract.settings_page import settings_page
from gateway.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
LEAST = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'
CENTRAL = "[stores.demo]\nstore_number = 4711\n"


def read(tmp_path: Path, text: str | bytes, model: Any = Settings) -> Any:
    path = tmp_path / "gateway.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path, model)


def refusal(tmp_path: Path, text: str | bytes, model: Any = Settings) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, model)
    error = caught.value
    assert error.exit_code == 78
    assert error.where == str(tmp_path / "gateway.toml")
    assert error.do
    assert str(error).startswith(error.where)
    return error


def test_three_lines_are_enough_and_keep_nothing_about_phones(tmp_path: Path) -> None:
    settings: Settings = read(tmp_path, LEAST)
    assert (settings.broker.keepalive_s, settings.broker.max_in_flight, settings.broker.protocol) == (30, 20, "5")
    assert settings.shop_path == settings.state_dir / "shop.json"
    assert not settings.privacy.is_complete
    assert settings.privacy.missing == ["privacy.controller", "privacy.contact", "privacy.dpia_ack"]
    assert settings.trust.public_keys == ()


@pytest.mark.parametrize("controller", ["", "  ", "Shop Ltd"])
@pytest.mark.parametrize("contact", ["", "\t", "privacy@example.org"])
@pytest.mark.parametrize("dpia_ack", [False, True])
def test_phones_are_kept_only_when_all_three_privacy_settings_are_made(controller: str, contact: str, dpia_ack: bool) -> None:
    privacy = Privacy(controller=controller, contact=contact, dpia_ack=dpia_ack)
    assert privacy.is_complete == (controller == "Shop Ltd" and contact == "privacy@example.org" and dpia_ack)
    assert privacy.is_complete == (not privacy.missing)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (LEAST + "keepalives = 30", "keepalives: Extra inputs"),
        (LEAST + "[broker]\nkeep_alive_s = 30", "broker.keep_alive_s: Extra inputs are not permitted; did you mean keepalive_s?"),
        (LEAST + "[privacy]\ndpia = true", "privacy.dpia: Extra inputs"),
        (LEAST + "[broker]\nport = 'mqtt'", "broker.port: "),
        (LEAST + "[broker]\nport = 0", "broker.port: "),
        (LEAST + "[broker]\nport = 70000", "broker.port: "),
        (LEAST + "[broker]\nprotocol = '4'", "broker.protocol: "),
        (LEAST + "[broker]\nhost = ''", "broker.host: "),
        (LEAST + "broker = 'localhost'", "broker: "),
        (LEAST + "time_zone = 'Mars/Olympus'", "'Mars/Olympus' is no time zone of the IANA database, such as Europe/Berlin"),
        (LEAST + "time_zone = ''", "is no time zone"),
        (LEAST + "time_zone = 'Europe'", "is no time zone"),
        (LEAST + "time_zone = '../../etc/passwd'", "is no time zone"),
        (LEAST + "day_start_s = 100", "day_start_s: "),
        (LEAST + "log_level = 'loud'", "log_level: "),
        (LEAST + "[chain]\ncompany_id = 76", "0x004C is Apple's"),
        (LEAST + "[chain]\nservice_uuid16 = 0xFEAA", "0xFEAA is Eddystone's"),
        (LEAST + "[chain]\nservice_uuid16 = 65536", "chain.service_uuid16: "),
        (LEAST + "[trust]\npublic_keys = ['abc']", "trust.public_keys.0: "),
        (LEAST + f"[trust]\npublic_keys = {['0' * 64] * 3}", "trust.public_keys: "),
        (LEAST + "[[receivers]]\nname = 'a'\n[[receivers]]\nname = 'a'", "two receivers have the same name"),
        (LEAST + "[[receivers]]\nname = 'a'\nadapter = 'eth0'", "receivers.0.adapter: "),
        (LEAST + "[[receivers]]\nname = 'a'\nadapter = '00:1A:7D:DA:71'", "receivers.0.adapter: "),
        (
            LEAST + "[[receivers]]\nname = 'a'\nadapter = '00:1A:7D:DA:71:0A'\n"
            "[[receivers]]\nname = 'b'\nadapter = '00:1a:7d:da:71:0a'",
            "two receivers have the same adapter",
        ),
        (LEAST + "[radio]\nsilence_s = 5", "radio.silence_s: "),
        (LEAST + "[radio]\nreboot = true", "radio.reboot: Extra inputs"),
        (LEAST + "[storage]\nquota_mib = 0", "storage.quota_mib: "),
        (LEAST + "[storage]\nkeep_ledger_days = 8", "storage.keep_ledger_days: "),
        (LEAST.replace("4711", "-1"), "store_number: "),
        (LEAST.replace("4711", "4294967296"), "store_number: "),
        (LEAST.replace("demo", "Demo Shop"), "store: "),
        (LEAST.replace("pi-1", "pi/1"), "gateway: "),
        ("", "store: is missing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, what: str) -> None:
    assert what in refusal(tmp_path, text).what


def test_central_has_settings_of_its_own(tmp_path: Path) -> None:
    settings: CentralSettings = read(tmp_path, CENTRAL, CentralSettings)
    assert (settings.stores["demo"].store_number, settings.stores["demo"].pushes_per_visit) == (4711, 1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "stores: is missing"),
        ("[stores]", "stores: "),
        (CENTRAL + "number = 1", "stores.demo.number: Extra inputs"),
        (CENTRAL + "pushes_per_visit = 11", "stores.demo.pushes_per_visit: "),
        ("[stores.Demo]\nstore_number = 1", "stores.Demo"),
        ("roster_days = 8\n" + CENTRAL, "roster_days: "),
    ],
)
def test_a_wrong_setting_of_central_is_named(tmp_path: Path, text: str, what: str) -> None:
    assert what in refusal(tmp_path, text, CentralSettings).what


@pytest.mark.parametrize(
    "text", ["store = ", "store = 'a'\nstore = 'b'", "[broker", b"\xff\xfe", "store: demo", "a = 1979-05-27T07:32:00Z\n["]
)
def test_what_is_no_toml_is_refused_with_the_line(tmp_path: Path, text: str | bytes) -> None:
    error = refusal(tmp_path, text)
    assert error.what.startswith("is no TOML (")
    assert error.do == "Correct the line it names."


def test_a_missing_file_is_said_with_the_option_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(tmp_path / "nowhere.toml", Settings)
    assert str(caught.value) == (
        f"{tmp_path}/nowhere.toml: cannot be read (No such file or directory). Name the settings file with --config FILE."
    )


@pytest.mark.parametrize("place", [".", "/dev/null/gateway.toml", "/proc/self/mem"])
def test_a_path_that_cannot_be_read_is_no_traceback(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(tmp_path / place, Settings)
    assert (caught.value.exit_code, caught.value.do != "") == (78, True)


def test_the_page_of_all_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings_page(), "Type: scripts/contract"


def test_the_page_of_all_settings_names_every_one() -> None:
    page = settings_page()
    models = {name: value for name, value in vars(settings).items() if isinstance(value, type) and issubclass(value, Strict)}
    sections = {key for model in (Settings, CentralSettings) for key in model.model_fields if f"[{key}" in page}
    for name in models.keys() - {"Strict", "QuietHoursEntry"}:
        for key in models[name].model_fields.keys() - sections:
            assert f"| `{key}` |" in page, f"{name}.{key}"


@pytest.mark.parametrize("host", ["broker..example.org", ".example.org", "a" * 64, "x\u202ey"])
def test_a_broker_that_nobody_could_look_up_is_refused(tmp_path: Path, host: str) -> None:
    error = refusal(tmp_path, f'{LEAST}[broker]\nhost = "{host}"\n')
    assert "broker.host" in error.what
    assert "is no name or address of a machine" in error.what


@pytest.mark.parametrize(
    "host", ["localhost", "broker.example.org.", "192.0.2.1", "2001:db8::1", "bücher.example", "my_pi.local"]
)
def test_a_broker_has_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, f'{LEAST}[broker]\nhost = "{host}"\n').broker.host == host
