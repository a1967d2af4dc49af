"""The gateway's settings: one TOML file, every number with its unit in its name, a misspelt key is an error."""

import codecs
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator

from gateway.contract.fields import GatewayId, Name, QuietHoursEntry, StoreId, Strict, explain
from gateway.contract.shop import UuidText
from gateway.core.announcer import MARGIN
from gateway.errors import ConfigurationError

_APPLE = 0x004C
_EDDYSTONE = 0xFEAA
_STATE_DIR = Path("/var/lib/beacon-gateway")
_RUNTIME_DIR = Path("/run/beacon-gateway")

PublicKeyHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _known_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as Europe/Berlin") from error
    return value


TimeZone = Annotated[str, AfterValidator(_known_time_zone)]
"""Of the IANA database."""


class Privacy(Strict):
    """Who answers for the data; until all three are there nothing about phones is kept."""

    controller: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    """Name of the retailer (GDPR article 4(7))."""
    contact: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    """Where shoppers ask for their rights, such as an e-mail address."""
    dpia_ack: bool = False
    """True once the data protection impact assessment (GDPR article 35) has been made."""

    @property
    def is_complete(self) -> bool:
        """Whether shoppers may be recognised at all."""
        return bool(self.controller and self.contact and self.dpia_ack)

    @property
    def missing(self) -> list[str]:
        """The settings that are still to be made."""
        given = {"controller": self.controller, "contact": self.contact, "dpia_ack": self.dpia_ack}
        return [f"privacy.{name}" for name, value in given.items() if not value]


def _could_be_looked_up(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{value!r} is no name or address of a machine") from error
    return value


class Broker(Strict):
    """The MQTT broker; the same contract runs on MQTT 5 and 3.1.1."""

    host: Annotated[str, Field(min_length=1), AfterValidator(_could_be_looked_up)] = "localhost"
    """Its name, as its certificate has it, or its address."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    """8883 is usual with TLS."""
    protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT. With 3.1.1 a broker does not say that it forbids a publication."""
    username: str | None = None
    """Of the account there. Absent: as nobody, or as whom the certificate names."""
    password_file: Path | None = None
    """A file that only the service user can read; systemd credentials fit ($CREDENTIALS_DIRECTORY)."""
    tls_ca_file: Path | None = None
    """Given: TLS, and the broker's certificate must come from here (/etc/ssl/certs/ca-certificates.crt for public authorities).
    Absent: nothing is encrypted, the password neither."""
    tls_cert_file: Path | None = None
    """The client's own certificate, where the broker asks for one."""
    tls_key_file: Path | None = None
    """Its key. Absent: it is in the certificate's file."""
    keepalive_s: Annotated[int, Field(ge=5, le=300)] = 30
    """A broker that says nothing for 1.3 times as long is given up, and connected to anew."""
    max_in_flight: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many publications wait for the broker's PUBACK at once."""
    resend_after_s: Annotated[int, Field(ge=1, le=3600)] = 60
    """An event is sent again this long after the broker took it, unless central has acknowledged it."""


class Trust(Strict):
    """The central service's public keys, pinned: the current one and the next."""

    public_keys: Annotated[tuple[PublicKeyHex, ...], Field(max_length=2)] = ()
    """What `gateway central key` prints. Without one no offer and no shopper is believed in."""


AdapterName = Annotated[str, StringConstraints(pattern=r"^(hci[0-9]{1,2}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$")]


class Receiver(Strict):
    """One Bluetooth adapter of this machine; ``name`` is its anchor in the shop file."""

    name: Name
    """Of its anchor, unlike any other receiver's of the shop."""
    adapter: AdapterName | None = None
    """Its address (bluetoothctl list), or its number, as in hci0: then the adapter that had this number when it was first
    seen, even if it has another one later. Absent: the first that is powered and nobody else's."""
    scan: Literal["auto", "active", "passive"] = "auto"
    """``auto``: passively where the radio helper reports and BlueZ allows it, else actively."""

    @field_validator("adapter")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        return value.upper() if value is not None and ":" in value else value


class Radio(Strict):
    """How the adapters of this machine are looked after."""

    silence_s: Annotated[int, Field(ge=20, le=3600)] = 90
    """An adapter that has heard nothing for so long counts as deaf."""
    beacon_silence_s: Annotated[int, Field(ge=10, le=3600)] = 30
    """The same where fixed beacons are usually heard at least every two seconds."""
    reboot_when_deaf: bool = False
    """Whether the machine is rebooted, at most once in six hours, when nothing else makes any adapter hear. The service needs to
    be allowed to do that."""
    helper_socket: Path = Path("/run/beacon-gateway-radio/radio.sock")
    """Of the radio helper (gateway-radio.service)."""


ForeignName = Annotated[str, StringConstraints(pattern=r"^[^+#/\x00-\x1f\x7f]{1,64}$")]
"""One level of an MQTT topic, or an identifier in a payload."""
TopicPrefix = Annotated[str, StringConstraints(pattern=r"^[^+#/$\x00-\x1f\x7f]+(/[^+#/\x00-\x1f\x7f]+)*$", max_length=128)]
"""The first levels of an MQTT topic, without a slash at either end."""


class ForeignReceivers(Strict):
    """Receivers of another system, which reports over a broker what they hear."""

    name: Name
    """In the log, and in the MQTT client's identifier."""
    kind: Literal["espresense", "openmqttgateway", "raddec"]
    """``openmqttgateway`` is Theengs Gateway too."""
    prefix: TopicPrefix | None = None
    """Of its topics; absent: as it comes out of the box (espresense, home, paretoanywhere)."""
    broker: Broker | None = None
    """With the keys of [broker]. Absent: the gateway's own, in a session of its own."""
    receivers: Annotated[dict[ForeignName, Name], Field(max_length=256)] = {}
    """Its name of a receiver → the anchor in the shop file. Absent: the shop's receivers that nobody else claims, named alike."""
    silence_s: Annotated[int, Field(ge=10, le=3600)] = 90
    """A receiver that has reported nothing for so long counts as deaf."""


class Chain(Strict):
    """Identifiers that the whole chain shares."""

    beacon_uuid: UuidText | None = None
    """Of the chain's iBeacons: what `gateway beacon add` takes where no --uuid is given."""
    service_uuid16: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None
    """Given: the token's form S is recognised. In TOML hexadecimal is 0xFFF0."""
    company_id: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None
    """Given: the token's form M is recognised."""

    @field_validator("service_uuid16")
    @classmethod
    def _own_service_uuid(cls, value: int | None) -> int | None:
        if value == _EDDYSTONE:
            raise ValueError("0xFEAA is Eddystone's; form S needs the chain's own service UUID")
        return value

    @field_validator("company_id")
    @classmethod
    def _own_company_id(cls, value: int | None) -> int | None:
        if value == _APPLE:
            raise ValueError("0x004C is Apple's; form M needs the chain's own company identifier")
        return value


class Clock(Strict):
    """When the wall clock is believed."""

    assume_synchronised: bool = False
    """True where something invisible to the kernel keeps the time, such as a hypervisor."""
    skew_s: Annotated[int, Field(ge=30, le=900)] = 120
    """How far a phone's clock may differ."""


class Presence(Strict):
    """When a belief becomes an announcement."""

    margin: Annotated[float, Field(ge=0, le=10)] = MARGIN
    """Natural logarithm of how much likelier a new zone must be."""
    hold_s: Annotated[float, Field(ge=0, le=30)] = 0.6
    """For how long it must be so when somebody was in no zone before; a zone of the shop may have its own time."""
    visit_gap_s: Annotated[int, Field(ge=60, le=14_400)] = 1800
    """Whoever is not heard for so long has ended the visit. The same number at central."""


class Storage(Strict):
    """Limits of the database."""

    quota_mib: Annotated[int, Field(ge=1, le=16_384)] = 512
    """What the database may take. Events beyond it are dropped, and central is told which."""
    keep_ledger_days: Annotated[int, Field(ge=1, le=7)] = 7
    """After this many days the pseudonym is removed from the ledger; the row stays countable. An event that names a shopper and
    that central has not taken by then is dropped: with 1 a weekend without central costs the weekend's events."""


class Settings(Strict):
    """Everything `gateway run` is told."""

    store: StoreId
    """The shop: GLN-13 or a short name."""
    store_number: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
    """The store in the token's key derivation; central maps the GLN to it. Nobody is recognised unless central and the apps have
    the same."""
    day_start_s: Annotated[int, Field(ge=-86_400, le=86_400, multiple_of=900)] = 0
    """Seconds after 00:00 UTC at which the store's day begins. Nobody is recognised unless central and the apps have the same."""
    gateway: GatewayId
    """This machine, unlike any other in the shop."""
    time_zone: TimeZone = "Europe/Berlin"
    """Of the shop; what is said of hours and weekdays in promotions is meant in it."""
    state_dir: Path = _STATE_DIR
    """Database, shop file and what has been learnt."""
    shop_file: Path | None = None
    """Zones and anchors. Absent: shop.json in the state folder."""
    control_socket: Path | None = None
    """Where the command line talks to it. Absent: control.sock in /run/beacon-gateway, or in the state folder where that is not
    the usual one."""
    role: Literal["decide", "receive"] = "decide"
    """What it does until a command says otherwise (gateway takeover). ``decide``: decides, unless another gateway of the store
    does so already; ``receive``: hears for the one that decides. One decides, however many hear."""
    mode: Literal["live", "listen-only"] = "live"
    """``listen-only`` measures visits and withholds every promotion."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the journal gets, and what is worse."""
    privacy: Privacy = Privacy()
    broker: Broker = Broker()
    trust: Trust = Trust()
    chain: Chain = Chain()
    clock: Clock = Clock()
    presence: Presence = Presence()
    storage: Storage = Storage()
    radio: Radio = Radio()
    receivers: tuple[Receiver, ...] = (Receiver(name="pi"),)
    foreign_receivers: Annotated[tuple[ForeignReceivers, ...], Field(max_length=16)] = ()

    @field_validator("receivers")
    @classmethod
    def _unique_receivers(cls, value: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
        if len({receiver.name for receiver in value}) != len(value):
            raise ValueError("two receivers have the same name")
        named = [receiver.adapter for receiver in value if receiver.adapter is not None]
        if len(set(named)) != len(named):
            raise ValueError("two receivers have the same adapter")
        return value

    @model_validator(mode="after")
    def _every_anchor_has_one_source(self) -> Self:
        claimed = [receiver.name for receiver in self.receivers]
        for source in self.foreign_receivers:
            claimed += source.receivers.values()
        twice = sorted({name for name in claimed if claimed.count(name) > 1})
        if twice:
            raise ValueError(f"two receivers are the same anchor: {', '.join(twice)}")
        if len({source.name for source in self.foreign_receivers}) != len(self.foreign_receivers):
            raise ValueError("two foreign_receivers have the same name")
        if sum(not source.receivers for source in self.foreign_receivers) > 1:
            raise ValueError("only one of the foreign_receivers may leave out which receivers are its own")
        return self

    def receivers_of(self, shop_receivers: Iterable[str]) -> dict[str, str]:
        """By anchor, who reports what it hears: the adapter, or the name of foreign receivers."""
        found = {receiver.name: receiver.adapter or "default" for receiver in self.receivers}
        for source in self.foreign_receivers:
            found |= dict.fromkeys(source.receivers.values(), source.name)
        for source in self.foreign_receivers:
            if not source.receivers:
                found |= dict.fromkeys((name for name in shop_receivers if name not in found), source.name)
        return found

    @property
    def shop_path(self) -> Path:
        """Where zones and anchors are."""
        return self.shop_file or self.state_dir / "shop.json"

    @property
    def control_path(self) -> Path:
        """Where the running daemon answers."""
        return self.control_socket or (_RUNTIME_DIR if self.state_dir == _STATE_DIR else self.state_dir) / "control.sock"

    @property
    def database_path(self) -> Path:
        """Ledger, outbox and remembered downlinks."""
        return self.state_dir / "gateway.db"


class CentralSettings(Strict):
    """Everything `gateway central` is told."""

    state_dir: Path = Path("/var/lib/beacon-central")
    """Database and signing key."""
    broker: Broker = Broker()
    stores: Annotated[dict[StoreId, "CentralStore"], Field(min_length=1)]
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the log gets, and what is worse."""
    visit_gap_s: Annotated[int, Field(ge=60, le=14_400)] = 1800
    """Whoever is not heard for so long has ended the visit. The same number at the gateways (presence.visit_gap_s)."""
    roster_days: Annotated[int, Field(ge=1, le=7)] = 2
    """Today and the days after it for which keys are sent down."""
    offer_resend_s: Annotated[int, Field(ge=1, le=3600)] = 10
    """An offer without a receipt is sent to its app again after this long, then after twice as long, until its deadline."""


class CentralStore(Strict):
    """What central must know of one store."""

    store_number: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
    """As in the settings of the store's gateways, and as the apps are told."""
    day_start_s: Annotated[int, Field(ge=-86_400, le=86_400, multiple_of=900)] = 0
    """Seconds after 00:00 UTC at which the store's day begins; as in the settings of its gateways, and as the apps are told."""
    pushes_per_visit: Annotated[int, Field(ge=0, le=10)] = 1
    """How many proposed pushes are granted in one visit. A gateway proposes one."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "EUR"
    """Of the tills' receipts (ISO 4217)."""
    time_zone: TimeZone = "Europe/Berlin"
    """Of the store."""
    quiet_hours: QuietHoursEntry | None = None
    """As in { start = "20:00", end = "08:00" }, in the store's time zone: nothing is pushed, then or later; the shelf may show
    it."""


CentralSettings.model_rebuild()

Model = TypeVar("Model", Settings, CentralSettings)
_MAX_BYTES = 256 * 1024
"""Settings are some kilobytes; /dev/zero has no end. Nor may a path hold U+0000."""


def read_settings(path: Path, model: type[Model]) -> Model:
    """The settings in a TOML file; ``ConfigurationError`` says what is wrong, where, and what to do."""
    try:
        with path.open("rb") as file:
            octets = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read ({error.strerror}).", where=str(path), do="Name the settings file with --config FILE."
        ) from error
    if len(octets) > _MAX_BYTES or b"\0" in octets or b"\\u0000" in octets or b"\\U00000000" in octets:
        raise ConfigurationError("is no file of settings.", where=str(path), do="Name the settings file with --config FILE.")
    try:
        # Editors on Windows begin a file with a mark, which TOML does not know.
        document = tomllib.loads(octets.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"is no TOML ({error}).", where=str(path), do="Correct the line it names.") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(explain(error, model), where=str(path), do="Correct the settings file.") from error
