"""The day's funnel as one page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Literal

from gateway.contract.day_report import FEWEST_SHOPPERS, DayReport, Steps

Language = Literal["de", "en"]

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "Offers of the day",
        "store": "Store",
        "funnel": "From the visit to the till",
        "visits": "visits",
        "matched": "matched",
        "granted": "granted",
        "shown": "shown",
        "opened": "opened",
        "redeemed": "redeemed",
        "saved": "saved",
        "dismissed": "dismissed",
        "refused": "refused",
        "late": "late",
        "promotions": "Promotions",
        "promotion": "promotion",
        "withheld": "Not offered, and why",
        "refusals": "Refused by central, and why",
        "zones": "Zones",
        "zone": "zone",
        "entries": "entries",
        "few": f"fewer than {FEWEST_SHOPPERS} shoppers",
        "nothing": "Nothing that day.",
        "unknown": "What the apps did is not known here: it is central's to tell.",
        "privacy": f"Of places with fewer than {FEWEST_SHOPPERS} shoppers no figures are shown. Test shoppers do not count.",
    },
    "de": {
        "title": "Angebote des Tages",
        "store": "Filiale",
        "funnel": "Vom Besuch bis zur Kasse",
        "visits": "Besuche",
        "matched": "passend",
        "granted": "bewilligt",
        "shown": "angezeigt",
        "opened": "geöffnet",
        "redeemed": "eingelöst",
        "saved": "gemerkt",
        "dismissed": "verworfen",
        "refused": "abgelehnt",
        "late": "zu spät",
        "promotions": "Aktionen",
        "promotion": "Aktion",
        "withheld": "Nicht angeboten, und warum",
        "refusals": "Von der Zentrale abgelehnt, und warum",
        "zones": "Zonen",
        "zone": "Zone",
        "entries": "Eintritte",
        "few": f"weniger als {FEWEST_SHOPPERS} Personen",
        "nothing": "An diesem Tag nichts.",
        "unknown": "Was die Apps taten, ist hier nicht bekannt: Das weiß die Zentrale.",
        "privacy": f"Zu Orten mit weniger als {FEWEST_SHOPPERS} Personen stehen hier keine Zahlen. Testpersonen zählen nicht.",
    },
}
_REASONS: Mapping[Language, Mapping[str, str]] = {
    "en": {},
    "de": {
        "outside_window": "außerhalb der Zeiten",
        "cap_visit": "in diesem Besuch schon eines",
        "cap_day": "heute schon bekommen",
        "cool_down": "Abstand noch zu kurz",
        "lower_priority": "ein wichtigeres ging vor",
        "quiet_hours": "Ruhezeit",
        "no_consent": "keine Einwilligung",
        "listen_only": "nur Messbetrieb",
        "clock_holdover": "Uhr ungenau",
        "hint_only": "Ort nicht sicher genug",
        "conflict": "Token doppelt gehört",
        "beacon_unhealthy": "Zone hört nichts",
        "already_granted": "schon bewilligt",
        "push_spent": "Benachrichtigung des Besuchs verbraucht",
        "unknown_shopper": "unbekannte Person",
        "unknown_promotion": "unbekannte Aktion",
        "late": "zu spät",
        "not_decider": "ein anderes Gateway entscheidet",
        "out_of_date": "Katalog veraltet",
        "quantity": "vergriffen",
    },
}
_FUNNEL = ("matched", "granted", "shown", "opened", "redeemed")
_COLUMNS = ("matched", "granted", "refused", "late", "shown", "opened", "saved", "dismissed", "redeemed")
_STYLE = """
:root { color-scheme: light dark; --bar: #2a6fb0; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.when { margin-top: 0; opacity: .75; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { padding: .3rem .35rem; border-bottom: 1px solid var(--line); } td:first-child { white-space: nowrap; }
th { text-align: left; font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bars { display: grid; grid-template-columns: max-content max-content 1fr; gap: .35rem .8rem; align-items: center; }
.bars .n { text-align: right; font-variant-numeric: tabular-nums; }
.bars svg { width: 100%; height: 1.1rem; display: block; } .bars rect { fill: var(--bar); }
.note { opacity: .75; font-size: .9rem; }
"""


def page(report: DayReport, language: Language) -> str:
    """The whole document; everything from outside is escaped."""
    words = _WORDS[language]
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="{language}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
        f"<title>{words['title']} {report.day}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{words['title']}</h1>",
        f'<p class="when">{words["store"]} {escape(report.store)} · {_day(report, language)} · {escape(report.time_zone)}</p>',
    ]
    if not report.visits and not report.offers.matched:
        parts.append(f"<p>{words['nothing']}</p>")
    else:
        parts += _contents(report, language)
    return "\n".join([*parts, f'<p class="note">{words["privacy"]}</p>', "</body></html>", ""])


def _contents(report: DayReport, language: Language) -> list[str]:
    words = _WORDS[language]
    steps = {"visits": report.visits} | {step: count for step in _FUNNEL if (count := getattr(report.offers, step)) is not None}
    parts = [f"<h2>{words['funnel']}</h2>", _bars((words[step], count) for step, count in steps.items())]
    if report.offers.shown is None:
        parts.append(f'<p class="note">{words["unknown"]}</p>')
    if report.promotions:
        parts += [f"<h2>{words['promotions']}</h2>", _promotions(report, words)]
    for title, counts in (("withheld", report.withheld), ("refusals", report.refused)):
        if counts:
            parts.append(f"<h2>{words[title]}</h2>")
            parts.append(_bars((_reason(reason, language), count) for reason, count in counts.items()))
    if report.zones:
        rows = [(zone.zone, words["few"] if zone.entries is None else str(zone.entries)) for zone in report.zones]
        parts += [f"<h2>{words['zones']}</h2>", _table([words["zone"], words["entries"]], rows)]
    return parts


def _promotions(report: DayReport, words: Mapping[str, str]) -> str:
    shown = [step for step in _COLUMNS if getattr(report.offers, step) is not None]

    def cells(steps: Steps) -> list[str]:
        return [str(getattr(steps, step)) for step in shown]

    rows = [(promotion.promotion_id, *cells(promotion)) for promotion in report.promotions]
    return _table([words["promotion"], *(words[step] for step in shown)], rows)


def _table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if index else ''}>{escape(cell)}</{tag}>" for index, cell in enumerate(cells))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="scroll"><table><tr>{row(head, "th")}</tr>{body}</table></div>'


def _bars(counts: Iterable[tuple[str, int]]) -> str:
    counts = list(counts)
    most = max((count for _, count in counts), default=0) or 1
    bars = "".join(
        f'<span>{escape(name)}</span><span class="n">{count}</span>'
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * count / most:.2f}" height="10"/></svg>'
        for name, count in counts
    )
    return f'<div class="bars">{bars}</div>'


def _reason(reason: str, language: Language) -> str:
    return _REASONS[language].get(reason, reason.replace("_", " "))


def _day(report: DayReport, language: Language) -> str:
    return f"{report.day:%d.%m.%Y}" if language == "de" else f"{report.day:%Y-%m-%d}"
