"""Tables of promotions and stock: Google's feed as it is, spreadsheets of one's own, and every refusal with its row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.feeds import Format, promotions_of, stock_of, windows_of
from gateway.contract.promotions import Promotion, Window

GOOGLE = (
    "promotion_id\tproduct_applicability\toffer_type\tlong_title\tpromotion_effective_dates\tredemption_channel\t"
    "percent_off\tminimum_purchase_amount\tgeneric_redemption_code\titem_id\n"
    "JOGHURT10\tSPECIFIC_PRODUCTS\tGENERIC_CODE\t10 % auf Joghurt\t2026-11-01T00:00+0100/2026-12-01T00:00:00+01:00\t"
    "IN_STORE,ONLINE\t10%\t5.00 EUR\tJOG10\tSKU1, SKU2\n"
    '\t\t\t\t\t\t\t\t\t\nZOLL5\tALL_PRODUCTS\tNO_CODE\t5" Pizza\t\tIN_STORE\t\t\t\t\n'
)


def test_googles_feed_as_it_is() -> None:
    table = promotions_of(GOOGLE, "tsv", zones=("dairy",))
    assert table.problems == ()
    assert table.passed_over == ("product_applicability",)
    assert table.rows == (
        Promotion(
            promotion_id="JOGHURT10",
            offer_type="generic_code",
            long_title={"de": "10 % auf Joghurt"},
            promotion_effective_dates="2026-11-01T00:00:00+01:00/2026-12-01T00:00:00+01:00",
            redemption_channel=("in_store", "online"),
            percent_off=10,
            minimum_purchase_amount="5.00 EUR",
            generic_redemption_code="JOG10",
            item_id=("SKU1", "SKU2"),
            zones=("dairy",),
        ),
        Promotion(promotion_id="ZOLL5", long_title={"de": '5" Pizza'}, redemption_channel=("in_store",), zones=("dairy",)),
    )


def test_a_spreadsheet_of_ones_own() -> None:
    text = (
        "\ufeffpromotion_id,kind,long_title[de],long_title[en],tags,windows,sensitive,priority,trigger,dwell_s\n"
        'wine,info,"Weinprobe, heute",Wine tasting,alcohol,"mon-wed,fri 16:00-20:00; sat",yes,-5,dwell,60\n'
    )
    table = promotions_of(text, "csv", zones=("entrance",))
    assert table.problems == ()
    (wine,) = table.rows
    assert wine == Promotion(
        promotion_id="wine",
        kind="info",
        long_title={"de": "Weinprobe, heute", "en": "Wine tasting"},
        tags=("alcohol",),
        windows=(Window(weekdays=("mon", "tue", "wed", "fri"), start="16:00", end="20:00"), Window(weekdays=("sat",))),
        sensitive=True,
        priority=-5,
        trigger="dwell",
        dwell_s=60,
    )


REFUSED: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "nothing": ("", [(0, "it is empty")]),
    "no promotion_id": (
        "long_title\tzones\nx\tdairy\n",
        [(1, "column promotion_id is missing"), (2, "promotion_id: is missing")],
    ),
    "a column twice": ("promotion_id\tlong_title\tlong_title\n", [(1, "column long_title occurs twice")]),
    "a language where there is none": ("promotion_id\tlong_title\tzones[de]\n", [(1, "zones has no languages")]),
    "an unknown language": ("promotion_id\tlong_title[fr]\tzones\na\tx\td\n", [(2, "long_title.fr")]),
    "no zone": ("promotion_id\tlong_title\na\tx\n", [(2, "names neither zones nor tags")]),
    "a fraction": ("promotion_id\tlong_title\tzones\tpriority\na\tx\td\t1.5\n", [(2, "priority: 1.5 is no whole number")]),
    "perhaps": ("promotion_id\tlong_title\tzones\tsensitive\na\tx\td\tperhaps\n", [(2, "sensitive: yes or no")]),
    "money without a currency": ("promotion_id\tlong_title\tzones\tmoney_off_amount\na\tx\td\t5\n", [(2, "money_off_amount")]),
    "a window that is none": (
        "promotion_id\tlong_title\tzones\twindows\na\tx\td\tmornings\n",
        [(2, "windows: mornings is none")],
    ),
    "a day that is none": (
        "promotion_id\tlong_title\tzones\twindows\na\tx\td\tmon-foo 10:00-11:00\n",
        [(2, "foo is no weekday")],
    ),
    "twice the same": (
        "promotion_id\tlong_title\tzones\na\tx\td\n\na\ty\td\n",
        [(4, "promotion_id a stands in row 2 already")],
    ),
    "more cells than columns": ("promotion_id\tlong_title\tzones\na\tx\td\tz\n", [(2, "4 cells under 3 columns")]),
    "every row that is wrong": (
        "promotion_id\tlong_title\tzones\tpriority\na\tx\td\tx\nb\tx\td\t1\nc\tx\td\ty\n",
        [(2, "priority: x"), (4, "priority: y")],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_as_a_whole_with_the_rows(name: str) -> None:
    text, says = REFUSED[name]
    table = promotions_of(text, "tsv")
    assert table.rows == ()
    assert [problem.row for problem in table.problems] == [row for row, _ in says]
    for problem, (_, words) in zip(table.problems, says, strict=True):
        assert words in problem.what


@pytest.mark.parametrize(
    "text",
    [
        'promotion_id;long_title;zones;windows\nwine;"Wein; heute";wine,bar;"mon 16:00-20:00; sat"\n',
        '\ufeffpromotion_id;"long_title";zones;windows\r\nwine;"Wein; heute";"wine,bar";"mon 16:00-20:00; sat"\r\n',
        'promotion_id;long_title;zones;windows;"notes, ours"\nwine;"Wein; heute";wine,bar;"mon 16:00-20:00; sat";none\n',
    ],
    ids=["plain", "quoted, as on Windows", "a comma in a quoted column"],
)
def test_semicolons_separate_where_the_decimal_sign_is_a_comma(text: str) -> None:
    table = promotions_of(text, "csv")
    assert table.problems == ()
    (wine,) = table.rows
    assert (wine.promotion_id, wine.long_title, wine.zones) == ("wine", {"de": "Wein; heute"}, ("wine", "bar"))
    assert [window.weekdays for window in wine.windows] == [("mon",), ("sat",)]


def test_semicolons_in_a_header_with_commas_separate_nothing() -> None:
    table = promotions_of("promotion_id,long_title,zones,a;b\nwine,Wein,wine,x\n", "csv")
    assert (table.problems, table.passed_over) == ((), ("a;b",))
    assert stock_of("gtin;price\n4006381333931;2.49 EUR\n", "csv").rows[0].price == "2.49 EUR"
    assert "column gtin is missing" in stock_of("gtin;price\n", "tsv").problems[0].what
    (problem,) = stock_of("gtin;price\n4006381333931;2,49 EUR\n", "csv").problems
    assert "2,49 EUR is no amount: write it with its currency as in 12.50 EUR" in problem.what


def test_a_quotation_that_never_ends() -> None:
    table = promotions_of('promotion_id,long_title\na,"x\n', "csv")
    assert table.rows == ()
    assert "cannot be read as a table" in table.problems[-1].what


@pytest.mark.parametrize(
    ("text", "weekdays"), [("fri-mon", ["fri", "sat", "sun", "mon"]), ("sun", ["sun"]), ("MON, ", None), ("", None)]
)
def test_windows(text: str, weekdays: list[str] | None) -> None:
    if weekdays is not None:
        assert windows_of(text) == [{"weekdays": weekdays}]
    elif text:
        with pytest.raises(ValueError, match="is none"):
            windows_of(text)
    else:
        assert windows_of(text) == []


STOCK = (
    "store_code,id,price,sale_price,quantity,availability\n"
    "4711,4006381333931,2.49 EUR,1.99 EUR,3,in stock\n"
    "4711,4006381333948,2.49 EUR,,0,\n"
)


def test_a_local_inventory_feed() -> None:
    table = stock_of(STOCK, "csv")
    assert table.problems == ()
    assert table.passed_over == ("store_code",)
    first, second = table.rows
    assert (first.gtin, first.sale_price, first.availability, first.is_sold_out) == (
        "4006381333931",
        "1.99 EUR",
        "in_stock",
        False,
    )
    assert second.is_sold_out


@pytest.mark.parametrize(
    ("text", "row", "says"),
    [
        ("price\n1 EUR\n", 1, "column gtin is missing"),
        ("gtin,price\n4006381333932,1 EUR\n", 2, "check digit"),
        ("gtin,price\n4006381333931,1\n", 2, "price"),
        ("gtin,quantity\n4006381333931,many\n", 2, "quantity: many is no whole number"),
        ("gtin,quantity\n4006381333931,-1\n", 2, "quantity"),
        ("gtin,availability\n4006381333931,soon\n", 2, "availability"),
        ("gtin\n4006381333931\n4006381333931\n", 3, "stands in the table already"),
    ],
)
def test_stock_is_refused_with_the_row(text: str, row: int, says: str) -> None:
    table = stock_of(text, "csv")
    assert table.rows == ()
    assert any(problem.row == row and says in problem.what for problem in table.problems)


@given(st.text(max_size=200), st.sampled_from(["tsv", "csv"]))
def test_any_text_is_a_table_or_is_refused(text: str, format_: Format) -> None:
    for read in (promotions_of, stock_of):
        table = read(text, format_)
        assert not (table.rows and table.problems)


@given(st.lists(st.lists(st.text(alphabet='ab1,;"\t\n-', max_size=6), min_size=3, max_size=5), max_size=5))
def test_any_cells_below_a_good_header(rows: list[list[str]]) -> None:
    text = "\n".join(["promotion_id\tlong_title\twindows\tpriority", *("\t".join(row) for row in rows)])
    table = promotions_of(text, "tsv", zones=("dairy",))
    assert all(isinstance(row, Promotion) for row in table.rows)
