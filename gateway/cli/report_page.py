"""The day's funnel as one page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Literal

from gateway.contract.day_report import FEWEST_COMPARED, FEWEST_SHOPPERS, DayReport, EffectDay, Steps

Language = Literal["de", "en"]

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "Offers of the day",
        "store": "Store",
        "funnel": "From the visit to the till",
        "visits": "visits",
        "matched": "matched",
        "shelf": "on the shelf",
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
        "effects": "What it brought",
        "got": "got it",
        "held": "held out",
        "bought": "bought",
        "difference": "difference",
        "points": "points",
        "to": "to",
        "too_few": f"not enough data: {FEWEST_COMPARED} of each are needed",
        "method": "Bought: a receipt after the decision, on the same day. Bars: the 95 % interval of the difference (Newcombe); "
        "one that crosses the middle line may be chance.",
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
        "shelf": "im Regal",
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
        "effects": "Was es gebracht hat",
        "got": "bekamen es",
        "held": "Kontrollgruppe",
        "bought": "kauften",
        "difference": "Unterschied",
        "points": "Punkte",
        "to": "bis",
        "too_few": f"zu wenig Daten: je {FEWEST_COMPARED} sind nötig",
        "method": "Gekauft: ein Bon nach der Entscheidung, am selben Tag. Balken: 95-%-Intervall des Unterschieds (Newcombe); "
        "was die Mittellinie kreuzt, kann Zufall sein.",
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
        "sold_out": "vergriffen",
        "cap_store": "im Laden heute oft genug",
        "cap_chain": "in allen Läden heute oft genug",
        "cap_week": "diese Woche schon bekommen",
        "cap_lifetime": "schon oft genug bekommen",
        "holdout": "Kontrollgruppe",
        "no_context": "Wissen über die Person kam nicht rechtzeitig",
        "audience": "nicht die Zielgruppe",
        "not_nth_visit": "nicht dieser Besuch",
        "muted_category": "Thema stummgeschaltet",
        "stopped": "will keine Angebote mehr",
        "refused_by_central": "von der Zentrale abgelehnt",
    },
}
_FUNNEL = ("matched", "granted", "shown", "opened", "redeemed")
_COLUMNS = ("matched", "shelf", "granted", "refused", "late", "shown", "opened", "saved", "dismissed", "redeemed")
_STYLE = """
:root { color-scheme: light dark; --bar: #2a6fb0; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.when { margin-top: 0; opacity: .75; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { padding: .3rem .35rem; border-bottom: 1px solid var(--line); }
td:first-child { overflow-wrap: anywhere; min-width: 7rem; }
th { text-align: left; font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bars { display: grid; grid-template-columns: fit-content(50%) max-content minmax(3rem, 1fr); gap: .35rem .8rem; }
.bars { align-items: center; overflow-wrap: anywhere; hyphens: auto; }
.bars .n { text-align: right; font-variant-numeric: tabular-nums; }
.bars svg { width: 100%; height: 1.1rem; display: block; } .bars rect { fill: var(--bar); }
.interval { width: 12rem; height: 1.1rem; display: block; } .interval rect { fill: var(--bar); }
.interval .range { opacity: .45; } .interval .zero { fill: currentColor; }
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
    if report.effects:
        parts += [f"<h2>{words['effects']}</h2>", _effects(report.effects, language), f'<p class="note">{words["method"]}</p>']
    if report.zones:
        rows = [(zone.zone, words["few"] if zone.entries is None else str(zone.entries)) for zone in report.zones]
        parts += [f"<h2>{words['zones']}</h2>", _table([words["zone"], words["entries"]], rows)]
    return parts


def _effects(effects: Iterable[EffectDay], language: Language) -> str:
    words = _WORDS[language]
    head = (words["promotion"], words["got"], words["bought"], words["held"], words["bought"], words["difference"], "")
    cells = "".join(f"<th{' class=n' if 0 < index < 5 else ''}>{escape(cell)}</th>" for index, cell in enumerate(head))
    rows = "".join(f"<tr>{_effect(effect, language)}</tr>" for effect in effects)
    return f'<div class="scroll"><table><tr>{cells}</tr>{rows}</table></div>'


def _effect(effect: EffectDay, language: Language) -> str:
    words = _WORDS[language]
    found = (effect.treated_bought, effect.held_out_bought, effect.difference, effect.low, effect.high)
    known = [share for share in found if share is not None]
    told, drawn, shares = words["too_few"], "", ["–", "–"]
    if len(known) == len(found):
        bought, held_out, difference, low, high = known
        shares = [_percent(f"{100 * share:.1f}", language) for share in (bought, held_out)]
        points, least, most = (f"{100 * share:+.1f}" for share in (difference, low, high))
        told = _number(f"{points} {words['points']} ({least} {words['to']} {most})", language)
        drawn = _interval(difference, low, high)
    counts = (str(effect.treated), shares[0], str(effect.held_out), shares[1])
    numbers = "".join(f"<td class=n>{each}</td>" for each in counts)
    return f"<td>{escape(effect.promotion_id)}</td>{numbers}<td>{told}</td><td>{drawn}</td>"


def _interval(difference: float, low: float, high: float) -> str:
    """From −1 to +1 over 200 units; the line in the middle is no difference."""
    return (
        '<svg class="interval" viewBox="0 0 200 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="range" x="{100 + 100 * low:.1f}" y="3" width="{100 * (high - low):.1f}" height="4"/>'
        f'<rect x="{99 + 100 * difference:.1f}" y="0" width="2" height="10"/>'
        '<rect class="zero" x="99.7" y="0" width="0.6" height="10"/></svg>'
    )


def _percent(number: str, language: Language) -> str:
    return f"{_number(number, language)} %"


def _number(text: str, language: Language) -> str:
    return text.replace(".", ",") if language == "de" else text


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
