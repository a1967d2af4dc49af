"""What is wrong with promotions before anybody waits for them in vain: pure, with the time and the shop as arguments.

An error means that a promotion cannot be published or can never reach a shopper; a warning, that it can, but hardly as meant.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gateway.contract.downlinks import Catalogue, fits_a_message
from gateway.contract.feeds import RowProblem, StockLine
from gateway.contract.fields import PromotionId, Strict, explain, to_money, to_rfc3339
from gateway.contract.promotions import Promotion
from gateway.contract.shop import ShopFile
from gateway.core import model
from gateway.core.conditions import ShopperContext, Situation, can_hold, compiled
from gateway.core.located import located_zones
from gateway.core.positioning import ground_of
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed, no_such
from gateway.core.timetable import is_in_force, next_change, next_turn

LANGUAGES = ("de", "en")
SHORT_DEADLINE_S = 5
"""Central answers within a second, but a phone with a weak network takes longer, and what comes later is dropped."""

Code = Literal[
    "invalid",
    "too_large",
    "expired",
    "never_in_force",
    "unreachable",
    "unknown_zone",
    "unknown_tag",
    "no_anchor",
    "missing_language",
    "shadowed",
    "duplicate_text",
    "short_deadline",
    "missing_code",
    "sold_out",
    "price_above_old",
    "audience_never",
    "no_sample",
    "broken_asset",
    "code_collides",
    "collides",
    "column",
]
LARGEST_IMAGE_BYTES = 512 * 1024
"""What a phone on a shop's weak network still loads before its owner has gone on."""
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
"""How PNG, JPEG and WebP begin (RFC 2083 3.1; T.81 B.1.1.3; RFC 9649 2.4)."""
_MOST_CHANGES = 64
"""Moments at which two promotions are compared: two weeks of their windows."""
_PROMOTION_ID: TypeAdapter[str] = TypeAdapter(PromotionId)


class Finding(Strict):
    """One thing that somebody should look at."""

    severity: Literal["error", "warning"]
    code: Code
    promotion_id: str | None
    """``None``: the promotion has none that could be read; ``what`` says where it stands."""
    what: str


@dataclass(frozen=True, slots=True)
class Asset:
    """A picture as it lies in a folder."""

    sha256: str
    size_bytes: int
    head: bytes
    """Its first twelve bytes."""


class LintReport(Strict):
    """What ``offer lint`` found."""

    promotions: int
    """How many were looked at."""
    errors: int
    warnings: int
    shop_known: bool
    """Whether zones, tags and anchors could be compared with a shop."""
    findings: tuple[Finding, ...]
    """In the order of the file."""


def lint(  # noqa: PLR0913 -- each has its name at the call
    document: Mapping[str, Any],
    *,
    shop: ShopFile | None,
    located: Set[str] | None = None,
    now_ms: int,
    time_zone: tzinfo,
    stock: Mapping[str, StockLine] | None = None,
    assets: Mapping[str, Asset] | None = None,
    contexts: Sequence[ShopperContext] | None = None,
) -> LintReport:
    """What is wrong with a promotions file as it was parsed: each promotion by itself, and one beside the other.

    Without a ``shop`` nothing is said of zones, tags, anchors and shadows; ``located`` are its zones in which somebody can be
    located, by default those of its anchors and positions. Without ``stock`` (by GTIN) nothing is said of what the inventory
    says; without ``assets`` (by file name) nothing of pictures. ``contexts`` are sample shoppers of one's own, to whom
    audiences are put besides those at the boundaries that each audience names itself.
    """
    promotions, findings = _read(document)
    if shop is not None and located is None:
        compiled_shop = shop.compiled()
        located = located_zones(compiled_shop, ground_of(compiled_shop))
    order = {_name_of(entry): index for index, entry in reversed([*enumerate(_entries(document))])}
    rules = {promotion.promotion_id: promotion.compiled() for promotion in promotions}
    for promotion in promotions:
        findings += _alone(promotion, rules[promotion.promotion_id], now_ms, time_zone)
        findings += _priced(promotion)
        findings += _for_whom(promotion, rules[promotion.promotion_id], contexts)
        if shop is not None and located is not None:
            findings += _in_the_shop(promotion, shop, located)
        if stock is not None:
            findings += _on_the_shelf(promotion, stock)
        if assets is not None:
            findings += _pictured(promotion, assets)
    findings += _duplicates(promotions)
    findings += _collisions(promotions, rules, now_ms, time_zone)
    if not fits_a_message(Catalogue(store="s" * 32, version=1, not_after=0, promotions=tuple(promotions))):
        findings.append(_error("too_large", None, f"{len(promotions)} promotions are more than one signed catalogue can carry."))
    if shop is not None:
        findings += _shadows(promotions, rules, shop, now_ms)
    findings.sort(key=lambda finding: -1 if finding.promotion_id is None else order[finding.promotion_id])
    errors = sum(finding.severity == "error" for finding in findings)
    return LintReport(
        promotions=len(_entries(document)),
        errors=errors,
        warnings=len(findings) - errors,
        shop_known=shop is not None,
        findings=tuple(findings),
    )


def refusals(
    promotions: Iterable[Promotion],
    *,
    now_ms: int,
    time_zone: tzinfo,
    shop: ShopFile | None = None,
    stock: Mapping[str, StockLine] | None = None,
) -> tuple[Finding, ...]:
    """Why these promotions must not be published: the errors that ``lint`` finds in them; empty when they may be."""
    document = {"promotions": [promotion.model_dump(mode="json", exclude_defaults=True) for promotion in promotions]}
    found = lint(document, shop=shop, now_ms=now_ms, time_zone=time_zone, stock=stock).findings
    return tuple(finding for finding in found if finding.severity == "error")


def with_rows(report: LintReport, problems: Sequence[RowProblem], passed_over: Sequence[str]) -> LintReport:
    """The report with what was wrong with the table that the promotions stood in."""
    if not problems and not passed_over:
        return report
    rows = [
        _error("invalid", None, f"row {each.row}: {each.what.rstrip('.')}." if each.row else f"{each.what}.") for each in problems
    ]
    columns = f"these columns mean nothing here: {listed(passed_over)}."
    over = [Finding(severity="warning", code="column", promotion_id=None, what=columns)] if passed_over else []
    findings = (*rows, *over, *report.findings)
    errors = sum(finding.severity == "error" for finding in findings)
    return report.model_copy(update={"findings": findings, "errors": errors, "warnings": len(findings) - errors})


def _error(code: Code, promotion_id: str | None, what: str) -> Finding:
    return Finding(severity="error", code=code, promotion_id=promotion_id, what=what)


def _warning(code: Code, promotion_id: str, what: str) -> Finding:
    return Finding(severity="warning", code=code, promotion_id=promotion_id, what=what)


# ---- the file -----------------------------------------------------------------------------------------------------------------


def _entries(document: Mapping[str, Any]) -> list[Any]:
    entries = document.get("promotions")
    return entries if isinstance(entries, list) else []


def _read(document: Mapping[str, Any]) -> tuple[list[Promotion], list[Finding]]:
    """The promotions that are in order, and what is wrong with the others."""
    findings = [
        _error("invalid", None, f"{printable(key, 60)} is no key of a promotions file; it has promotions.")
        for key in document
        if key != "promotions"
    ]
    if not isinstance(document.get("promotions"), list):
        findings.append(_error("invalid", None, "promotions: a list was expected."))
    promotions: dict[str, Promotion] = {}
    for index, entry in enumerate(_entries(document)):
        try:
            promotion = Promotion.model_validate(entry)
        except ValidationError as error:
            name = _name_of(entry)
            place = "" if name else f"promotions.{index}: "
            findings.append(_error("invalid", name, place + printable(explain(error, Promotion), limit=600)))
            continue
        if promotion.promotion_id in promotions:
            findings.append(_error("invalid", promotion.promotion_id, "this promotion_id occurs twice."))
        promotions[promotion.promotion_id] = promotion
    return list(promotions.values()), findings


def _name_of(entry: object) -> str | None:
    name = entry.get("promotion_id") if isinstance(entry, dict) else None
    try:
        return _PROMOTION_ID.validate_python(name)
    except ValidationError:
        return None


# ---- each by itself -----------------------------------------------------------------------------------------------------------


def _alone(promotion: Promotion, rule: model.Promotion, now_ms: int, time_zone: tzinfo) -> Iterable[Finding]:
    name = promotion.promotion_id
    if rule.effective_until_ms is not None and rule.effective_until_ms <= now_ms:
        yield _error("expired", name, f"its effective dates are over since {to_rfc3339(rule.effective_until_ms)}.")
    elif not is_in_force(rule, now_ms, time_zone) and next_turn(rule, now_ms, time_zone) is None:
        within = " within its effective dates" if promotion.promotion_effective_dates else ""
        yield _error("never_in_force", name, f"none of its windows ever opens{within}.")
    shown = {field: getattr(promotion, field) for field in ("long_title", "text", "fine_print")}
    if promotion.image is not None:
        shown["image.text"] = promotion.image.text
    for field, given in shown.items():
        missing = [language for language in LANGUAGES if given and not given.get(language, "").strip()]
        if missing:
            yield _warning("missing_language", name, f"{field} is missing in: {', '.join(missing)}.")
    if promotion.deadline_s < SHORT_DEADLINE_S and promotion.kind != "info":
        yield _warning(
            "short_deadline",
            name,
            f"deadline_s is {promotion.deadline_s}: what reaches the app later is dropped; use {SHORT_DEADLINE_S} or more.",
        )
    if promotion.kind == "coupon" and promotion.generic_redemption_code is None:
        yield _warning("missing_code", name, "a coupon without generic_redemption_code: the till cannot take it.")


def _priced(promotion: Promotion) -> Iterable[Finding]:
    name = promotion.promotion_id
    if promotion.availability == "out_of_stock":
        yield _error("sold_out", name, "its availability is out_of_stock: nobody could buy it.")
    if promotion.price is not None and promotion.old_price is not None:
        price, old_price = to_money(promotion.price), to_money(promotion.old_price)
        if price.amount > old_price.amount:
            yield _error("price_above_old", name, f"it costs {price} now, which is more than {old_price} before.")


def _for_whom(promotion: Promotion, rule: model.Promotion, contexts: Sequence[ShopperContext] | None) -> Iterable[Finding]:
    if rule.audience is None:
        return
    name = promotion.promotion_id
    if not can_hold(rule.audience):
        yield _error("audience_never", name, "nobody can ever be meant by its audience: its conditions exclude one another.")
    elif contexts is not None:
        test = compiled(rule.audience)
        situations = [Situation(seconds, minute) for seconds in (0, promotion.dwell_s) for minute in range(0, 1440, 15)]
        if not any(test(context, situation) for context in contexts for situation in situations):
            yield _warning("no_sample", name, f"its audience means none of the {len(contexts)} sample shoppers.")


def _pictured(promotion: Promotion, assets: Mapping[str, Asset]) -> Iterable[Finding]:
    if promotion.image is None:
        return
    file_name = promotion.image.url.partition("?")[0].rpartition("/")[2]
    asset = assets.get(file_name)
    name, what = promotion.promotion_id, f"its image {printable(file_name, 80)}"
    if asset is None:
        yield _error("broken_asset", name, f"{what} is not among the assets.")
    elif asset.sha256 != promotion.image.sha256:
        yield _error("broken_asset", name, f"{what} has another SHA-256 than it says ({asset.sha256}): apps would not show it.")
    elif not asset.head.startswith(_PICTURES):
        yield _error("broken_asset", name, f"{what} is neither PNG nor JPEG nor WebP.")
    elif asset.size_bytes > LARGEST_IMAGE_BYTES:
        most = LARGEST_IMAGE_BYTES // 1024
        yield _error(
            "broken_asset", name, f"{what} has {asset.size_bytes // 1024} KiB, more than the {most} a phone loads in time."
        )


# ---- in the shop --------------------------------------------------------------------------------------------------------------


def _in_the_shop(promotion: Promotion, shop: ShopFile, located: Set[str]) -> Iterable[Finding]:
    name = promotion.promotion_id
    tags = {tag for zone in shop.zones.values() for tag in zone.tags}
    named_and_known: tuple[tuple[str, Code, tuple[str, ...], Set[str]], ...] = (
        ("zone", "unknown_zone", promotion.zones, shop.zones.keys()),
        ("tag", "unknown_tag", promotion.tags, tags),
    )
    for kind, code, given, known in named_and_known:
        unknown = [each for each in dict.fromkeys(given) if each not in known]
        if unknown:
            more = f" Unknown, too: {listed(unknown[1:])}." if unknown[1:] else ""
            yield _warning(code, name, f"{no_such(kind, unknown[0], known)}{more}")
    named = _zones_of(promotion, shop)
    empty = [zone for zone in named if zone not in located]
    if not named:
        yield _error("unreachable", name, "the shop has none of its zones and tags, so nobody can get it.")
    elif len(empty) == len(named):
        yield _error("unreachable", name, f"no anchor stands in any of its zones, so nobody is located there: {listed(empty)}.")
    elif empty:
        yield _warning("no_anchor", name, f"no anchor stands in these zones, so nobody is located there: {listed(empty)}.")


def _zones_of(promotion: Promotion, shop: ShopFile) -> tuple[str, ...]:
    """Where it can be offered; what a visit triggers may name no zone and means any."""
    if not promotion.zones and not promotion.tags:
        return tuple(dict.fromkeys(anchor.zone for anchor in shop.anchors.values() if anchor.zone is not None))
    return shop.zones_named(promotion.zones, promotion.tags)


# ---- on the shelf -------------------------------------------------------------------------------------------------------------


def _on_the_shelf(promotion: Promotion, stock: Mapping[str, StockLine]) -> Iterable[Finding]:
    lines = [stock[item] for item in promotion.item_id if item in stock]
    if lines and len(lines) == len(promotion.item_id) and all(line.is_sold_out for line in lines):
        yield _error("sold_out", promotion.promotion_id, f"none of its products is in stock: {listed(promotion.item_id)}.")
    for line in lines:
        if line.price is None or line.sale_price is None:
            continue
        price, sale_price = to_money(line.price), to_money(line.sale_price)
        if price.currency == sale_price.currency and sale_price.amount > price.amount:
            yield _error(
                "price_above_old", promotion.promotion_id, f"{line.gtin} costs {sale_price} on sale, which is more than {price}."
            )


# ---- beside the others --------------------------------------------------------------------------------------------------------


def _duplicates(promotions: Sequence[Promotion]) -> Iterable[Finding]:
    first: dict[tuple[Any, ...], str] = {}
    for promotion in promotions:
        shown = tuple(sorted((kind, language, text.strip().casefold()) for kind, language, text in _shown(promotion)))
        other = first.setdefault(shown, promotion.promotion_id)
        if other != promotion.promotion_id:
            yield _warning("duplicate_text", promotion.promotion_id, f"shoppers read the same as in {other}.")


def _shown(promotion: Promotion) -> Iterable[tuple[str, str, str]]:
    for field in ("long_title", "text"):
        for language, text in getattr(promotion, field).items():
            yield field, language, text


@dataclass(frozen=True, slots=True)
class _Contender:
    """A promotion in a zone that wants the visit's push; the least comes first."""

    moment_ms: int
    """After the entry."""
    rank: tuple[int, str]
    """As the gateway settles it: priority, then promotion_id."""
    promotion: Promotion

    @property
    def order(self) -> tuple[int, tuple[int, str]]:
        return self.moment_ms, self.rank


def _shadows(
    promotions: Sequence[Promotion], rules: Mapping[str, model.Promotion], shop: ShopFile, now_ms: int
) -> Iterable[Finding]:
    """Who never gets the push of a shopper's first visit, because one that is always in force gets it earlier."""
    contenders: dict[str, list[_Contender]] = defaultdict(list)
    for promotion in promotions:
        until_ms = rules[promotion.promotion_id].effective_until_ms
        if promotion.kind in model.PUSH_KINDS and (until_ms is None or until_ms > now_ms):
            contender = _Contender(_moment_ms(promotion), (-promotion.priority, promotion.promotion_id), promotion)
            for zone in _zones_of(promotion, shop):
                contenders[zone].append(contender)
    shadowed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for zone, all_here in contenders.items():
        always = sorted((c for c in all_here if _is_always(c.promotion, rules[c.promotion.promotion_id], now_ms)), key=_order)
        # A sensitive one is passed over where no receiver heard the shopper, so it shadows only its like.
        open_to_all = always if shop.zones[zone].sensitive else [c for c in always if not c.promotion.sensitive]
        for contender in all_here:
            rivals = always if contender.promotion.sensitive else open_to_all
            if rivals and rivals[0].order < contender.order:
                shadowed[contender.promotion.promotion_id, rivals[0].promotion.promotion_id].append(zone)
    for (name, winner), zones in shadowed.items():
        yield _warning(
            "shadowed",
            name,
            f"never wins in {listed(sorted(zones))} while {winner} is in force: that one always is, and takes the visit's push "
            f"first until its daily_cap is used up.",
        )


def _order(contender: _Contender) -> tuple[int, tuple[int, str]]:
    return contender.order


def _moment_ms(promotion: Promotion) -> int:
    """When after the entry it is decided about; whoever leaves has been there longer than anybody dwells."""
    return _LONGER_THAN_ANY_DWELL_MS if promotion.trigger == "exit" else promotion.dwell_s * 1000


_LONGER_THAN_ANY_DWELL_MS = 24 * 3_600_000


def _is_always(promotion: Promotion, rule: model.Promotion, now_ms: int) -> bool:
    """Whether everybody gets it whenever they come, as far as the rule goes."""
    begun = rule.effective_from_ms is None or rule.effective_from_ms <= now_ms
    for_all = promotion.audience is None and promotion.trigger != "nth_visit" and not promotion.holdout_percent
    scarce = (promotion.quantity, promotion.quantity_per_store, promotion.store_cap_day, promotion.chain_cap_day)
    endless = all(limit is None for limit in (*scarce, promotion.weekly_cap, promotion.lifetime_cap))
    return begun and rule.effective_until_ms is None and not rule.windows and for_all and endless


# ---- against one another ------------------------------------------------------------------------------------------------------


def _collisions(
    promotions: Sequence[Promotion], rules: Mapping[str, model.Promotion], now_ms: int, time_zone: tzinfo
) -> Iterable[Finding]:
    """Two that contradict one another while both are in force: one code for two discounts, or two discounts on one product."""
    codes: dict[str, list[Promotion]] = defaultdict(list)
    items: dict[str, list[Promotion]] = defaultdict(list)
    for promotion in promotions:
        if promotion.generic_redemption_code is not None:
            codes[promotion.generic_redemption_code.casefold()].append(promotion)
        for item in dict.fromkeys(promotion.item_id):
            items[item].append(promotion)
    told: set[tuple[str, str]] = set()
    for named, is_code in ((codes, True), (items, False)):
        for what, some in named.items():
            for promotion, other in _contradicting(some, rules, now_ms, time_zone):
                if (promotion.promotion_id, other.promotion_id) in told:
                    continue
                told.add((promotion.promotion_id, other.promotion_id))
                if is_code:
                    yield _error(
                        "code_collides",
                        promotion.promotion_id,
                        f"{other.promotion_id} has the same code and another discount: the till cannot tell them apart.",
                    )
                else:
                    yield _warning(
                        "collides",
                        promotion.promotion_id,
                        f"{other.promotion_id} promises another discount on {printable(what, 60)} at the same time.",
                    )


def _contradicting(
    some: Sequence[Promotion], rules: Mapping[str, model.Promotion], now_ms: int, time_zone: tzinfo
) -> Iterable[tuple[Promotion, Promotion]]:
    """Each with the first before it that says otherwise."""
    for index, promotion in enumerate(some[:_MOST_CHANGES]):
        for other in some[:index]:
            if _discount(promotion) != _discount(other) and _meet(
                rules[promotion.promotion_id], rules[other.promotion_id], now_ms, time_zone
            ):
                yield promotion, other
                break


def _discount(promotion: Promotion) -> tuple[object, ...]:
    money = (promotion.money_off_amount, promotion.price, promotion.minimum_purchase_amount)
    return promotion.percent_off, *(None if each is None else to_money(each) for each in money)


def _meet(one: model.Promotion, other: model.Promotion, now_ms: int, time_zone: tzinfo) -> bool:
    """Whether both are ever in force at one moment: if so, then when the later of them begins."""
    if not one.is_time_limited and not other.is_time_limited:
        return True
    at_ms: int | None = max(now_ms, one.effective_from_ms or 0, other.effective_from_ms or 0)
    for _ in range(_MOST_CHANGES):
        if at_ms is None:
            return False
        if is_in_force(one, at_ms, time_zone) and is_in_force(other, at_ms, time_zone):
            return True
        changes = (next_change(rule, at_ms, time_zone) for rule in (one, other))
        at_ms = min((change for change in changes if change is not None), default=None)
    return False
