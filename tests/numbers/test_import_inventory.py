"""Real stock from a file: everything in it or nothing, and a reason for every row refused."""

import csv
import os
import subprocess
import sys
import tracemalloc
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chirp_dashboard.numbers import stock
from chirp_dashboard.numbers.models import InventoryNumber, PhoneNumber
from chirp_dashboard.numbers.stock_file import LONGEST_LINE, rows

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(tmp_path):
    """Import `text` as a file; return what the command printed."""

    def load(text, **options):
        file = tmp_path / "stock.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        said = StringIO()
        load.said = said
        call_command("import_inventory", str(file), stdout=said, **options)
        return said.getvalue()

    return load


def facts(number):
    row = InventoryNumber.objects.get(number=number)
    return row.country, row.number_type, row.region, row.city, row.area_code, row.capabilities


def refusals(load, text, **options):
    """The lines the command printed about a file it refused."""
    with pytest.raises(CommandError, match="Nothing was loaded"):
        load(text, **options)
    assert not InventoryNumber.objects.exists()
    return load.said.getvalue().splitlines()


# What follows from a number -------------------------------------------------------------------


def test_number_alone_is_enough(load):
    assert load("number\n+12125550142\n") == "1 of 1 numbers were loaded.\n"
    assert facts("+12125550142") == (
        "US", "local", "NY", "New York", "212", ["SMS", "MMS", "Voice"],
    )  # fmt: skip
    assert InventoryNumber.objects.get().status == "for_sale"


def test_toll_free_number_belongs_to_no_place(load):
    load("number\n+18005550142\n")
    assert facts("+18005550142") == ("US", "tollfree", "", "", "800", ["SMS", "Voice"])


def test_short_code_stays_bare_digits(load):
    load("number\n72727\n555123\n")
    assert facts("72727") == ("US", "shortcode", "", "", "", ["SMS", "MMS"])
    assert facts("555123")[1] == "shortcode"


def test_territory_is_a_country_of_its_own(load):
    load("number\n+17875550142\n")
    assert facts("+17875550142")[:3] == ("PR", "local", "")


def test_number_of_another_country_keeps_what_the_file_says_of_its_place(load):
    load("number,region,city\n+442079460018,LDN,London\n")
    assert facts("+442079460018")[:5] == ("GB", "local", "LDN", "London", "")


@pytest.mark.parametrize(
    "written",
    [
        "2125550142",
        "12125550142",
        "(212) 555-0142",
        "+1 212-555-0142",
        "212.555.0142",
        "'+12125550142",
        "\u00a0212\u2011555\u20110142",
        '"+1 (212) 555-0142"',
    ],
)
def test_number_is_understood_however_it_is_written(load, written):
    load(f"number\n{written}\n")
    assert InventoryNumber.objects.get().number == "+12125550142"


# What the other columns say ------------------------------------------------------------------


def test_every_column_is_taken_over(load):
    load(
        "capabilities,city,region,country,type,area_code,number\n"
        "voice | sms,Yonkers,ny,us,Local,212,+12125550142\n"
    )
    assert facts("+12125550142") == ("US", "local", "NY", "Yonkers", "212", ["SMS", "Voice"])


def test_region_can_be_written_out(load):
    load("number,region\n+12125550142,New York\n")
    assert facts("+12125550142")[2:4] == ("NY", "New York")


def test_area_code_of_several_regions_takes_the_one_that_is_named(load):
    load("number,region,city\n+18675550142,NT,Yellowknife\n+19025550142,PE,\n+19025550143,,\n")
    assert facts("+18675550142")[2:4] == ("NT", "Yellowknife")
    assert facts("+19025550142")[2:4] == ("PE", "")
    assert facts("+19025550143")[2:4] == ("NS", "Halifax")


def test_toll_free_number_can_be_sold_under_canada(load):
    load("number,country\n+18005550142,CA\n72727,CA\n")
    assert {row.country for row in InventoryNumber.objects.all()} == {"CA"}


@pytest.mark.parametrize("written", ["toll-free", "Toll free", "tollfree", "TOLL_FREE"])
def test_type_is_understood_however_it_is_written(load, written):
    load(f"number,type\n+18005550142,{written}\n")
    assert InventoryNumber.objects.get().number_type == "tollfree"


# What is refused -----------------------------------------------------------------------------

BAD_ROWS = [
    ("+12125", "not a valid number"),
    ("+12121155550", "not a valid number"),
    ("+12129115555", "not a valid number: no number begins with 212 911"),
    ("+19995550142", "not a valid number"),
    ("+19836550142", "not a valid number"),
    ("+15005550142", "neither a local number nor a toll-free one"),
    ("+19005550142", "neither a local number nor a toll-free one"),
    ("+447400123456", "neither a local number nor a toll-free one"),
    ("hello", "not a phone number"),
    (",local", "it has no number"),
    ("1.21256E+10", "a spreadsheet has rounded the number"),
    ("12345", "not a"),
    ("+12125550142,tollfree", "type tollfree does not fit: the number is local"),
    ("+18005550142,local", "type local does not fit: the number is toll-free"),
    ("72727,local", "type local does not fit: the number is short code"),
    ("+12125550142,mobile", "type mobile is unknown"),
    ("+12125550142,,CA", "country CA does not fit: the number belongs to US"),
    ("+14165550142,,US", "country US does not fit: the number belongs to CA"),
    ("+18005550142,,GB", "country GB does not fit: the number belongs to US or CA"),
    ("+12125550142,,,CA", "region CA does not fit: area code 212 is in New York"),
    ("+12125550142,,,XX", "region XX is unknown"),
    ("+18005550142,,,NY", "a toll-free number has no region and no city"),
    ("72727,,,,Chicago", "a short code number has no region and no city"),
    ("+12125550142,,,," + "x" * 81, "the city is longer than 80 characters"),
    ("+12125550142,,,,,213", "area code 213 does not fit: the number's is 212"),
    ("72727,,,,,212", "area code 212 does not fit: the number's is none"),
    ("+12125550142,,,,,,SMS;Fax", "capability fax is unknown: write SMS; MMS; Voice"),
    ("+12125550142,,,,,,SMS,MMS", "it has 8 columns, the header 7"),
    ('"+12125550142', "its quotation marks do not match"),
    ("+12125550142,,,,New\0York", "it contains a NUL byte"),
    ("+12125550142,,,," + "x" * LONGEST_LINE, f"it is longer than {LONGEST_LINE:,} characters"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS, ids=[reason for _, reason in BAD_ROWS])
def test_bad_row_is_refused_with_line_and_reason(load, row, reason):
    if not row.startswith('"') and row.count(",") < 7:
        row += "," * (6 - row.count(","))
    header = "number,type,country,region,city,area_code,capabilities"
    (line,) = refusals(load, f"{header}\n+13125550142,,,,,,\n{row}\n")
    assert line.startswith("line 3: ")
    assert reason in line


def test_row_that_is_not_utf8_is_refused_and_the_others_are_not(load):
    text = b"number,city\n+15145550142,Montr\xe9al\n+15145550143,Montr\xc3\xa9al\n"
    (line,) = refusals(load, text)
    assert "line 2: " in line
    assert "it is not UTF-8" in line
    load(text, skip_bad=True)
    assert InventoryNumber.objects.get().city == "Montréal"


def test_forgotten_quotation_mark_spoils_its_own_line_only(load):
    text = 'number,city\n+12125550142,"New York\n+12125550143,New York\n+12125550144,New York\n'
    assert len(refusals(load, text)) == 1


def test_duplicate_names_the_first_line_with_that_number(load):
    text = "number\n+12125550142\n+12125550143\n212-555-0142\n+12125550142\n"
    assert refusals(load, text) == [
        "line 4: +12125550142: the same number as in line 2",
        "line 5: +12125550142: the same number as in line 2",
    ]


def test_duplicate_of_a_bad_row_is_none(load):
    load("number,type\n+12125550142,tollfree\n+12125550142,local\n", skip_bad=True)
    assert InventoryNumber.objects.count() == 1


def test_same_short_code_of_two_countries_is_two_numbers(load):
    load("number,country\n72727,US\n72727,CA\n")
    assert InventoryNumber.objects.count() == 2


def test_number_already_in_stock_is_refused(load):
    load("number\n+12125550142\n")
    with pytest.raises(CommandError, match=r"1 of 2 rows are bad\. Nothing was loaded\."):
        load("number\n+12125550143\n+12125550142\n")
    assert "line 3: +12125550142: already in stock" in load.said.getvalue()
    assert InventoryNumber.objects.count() == 1


def test_number_somebody_owns_is_refused_until_it_is_released(load, organization):
    own = {"organization": organization, "country": "US", "number_type": "local", "currency": "USD"}
    PhoneNumber.objects.create(number="+12125550142", rental_amount=100, **own)
    PhoneNumber.objects.create(
        number="+12125550143",
        rental_amount=100,
        state="released",
        released_at="2026-01-02T00:00Z",
        releases_on="2026-01-02",
        **own,
    )
    text = "number\n+12125550142\n+12125550143\n"
    (line,) = refusals(load, text)
    assert line == "line 2: +12125550142: already owned by an organization"


def test_one_bad_row_in_a_thousand_loads_nothing(load):
    good = "".join(f"+1212555{line:04}\n" for line in range(1000))
    refusals(load, f"number\n{good}nonsense\n")


def test_somebody_elses_change_meanwhile_loads_nothing(load, monkeypatch):
    load("number\n+12125550142\n")
    monkeypatch.setattr(stock.StockImport, "_refuse_stocked", lambda self: None)
    with pytest.raises(CommandError, match="Somebody else changed the stock meanwhile"):
        load("number\n+12125550142\n+12125550143\n")
    assert InventoryNumber.objects.count() == 1


# Options --------------------------------------------------------------------------------------


def test_skip_bad_loads_the_good_rows_and_reports_the_others(load):
    said = load("number\n+12125550142\nnonsense\n+12125550143\n", skip_bad=True)
    assert "line 3: nonsense: not a phone number" in said
    assert said.endswith("2 of 3 numbers were loaded.\n")
    assert InventoryNumber.objects.count() == 2


def test_dry_run_checks_everything_and_loads_nothing(load):
    said = load("number\n+12125550142\n", dry_run=True)
    assert said == "1 of 1 numbers could be loaded.\n"
    assert not InventoryNumber.objects.exists()
    with pytest.raises(CommandError, match="1 of 2 rows are bad"):
        load("number\n+12125550142\nnonsense\n", dry_run=True)


def test_report_holds_every_bad_row_where_the_terminal_shows_fifty(load, tmp_path):
    text = "number\n" + "".join(f"nonsense {line}\n" for line in range(120))
    said = refusals(load, text, report=str(tmp_path / "report.csv"))
    assert len(said) == 51
    assert said[-1] == "… and 70 more bad rows"
    with open(tmp_path / "report.csv", newline="") as report:
        written = list(csv.DictReader(report))
    assert len(written) == 120
    assert written[-1]["line"] == "121"
    assert written[-1]["number"] == "nonsense 119"
    assert written[-1]["reason"].startswith("not a phone number")


@pytest.mark.parametrize("number", ["=cmd()", "@SUM(1)", "-1+1", "+cmd|' /C calc'!A0"])
def test_report_is_harmless_to_a_spreadsheet(load, tmp_path, number):
    refusals(load, f"number\n{number}\n+1 (911) 555\n", report=str(tmp_path / "report.csv"))
    with open(tmp_path / "report.csv", newline="") as report:
        first, second = csv.DictReader(report)
    assert first["number"] == "'" + number
    assert second["number"] == "+1 (911) 555"


def test_report_cannot_play_tricks_on_the_terminal(load):
    (line,) = refusals(load, "number\nred\x1b[31m\u202eevil\n")
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_report_that_cannot_be_written_loads_nothing(load, tmp_path):
    with pytest.raises(CommandError, match="no-such-folder"):
        load("number\n+12125550142\n", report=str(tmp_path / "no-such-folder" / "report.csv"))
    assert not InventoryNumber.objects.exists()


# Files ----------------------------------------------------------------------------------------

GOOD = "number,city\n+12125550142,New York\n"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        GOOD.rstrip("\n").encode(),
        b"\n\n" + GOOD.encode() + b"\n,\n  \n",
        b" Number , CITY \n +12125550142 , New York \n",
        b'"number","city"\n"+12125550142","New York"\n',
    ],
    ids=["BOM", "CRLF", "CR", "no last newline", "blank lines", "spaces", "quotes"],
)
def test_file_is_read_however_it_was_saved(load, text):
    assert load(text) == "1 of 1 numbers were loaded.\n"
    assert facts("+12125550142")[3] == "New York"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "The file is empty"),
        (b"\n\n  \n", "The file is empty"),
        (b"number\n", "The file has no rows below its header"),
        (b"+12125550142\n+12125550143\n", "The first line has to name the columns"),
        (b"type,city\nlocal,New York\n", "The first line has to name the columns"),
        (b"number,colour\n+12125550142,red\n", "There is no column “colour”"),
        (b"number,city,City\n+12125550142,a,b\n", "The column “city” is there twice"),
        (b"number;city\n+12125550142;New York\n", "The columns are separated by semicolons"),
        (b"number\tcity\n+12125550142\tNew York\n", "The columns are separated by tabs"),
        (b'"number\n+12125550142\n', "quotation marks do not match"),
        (GOOD.encode("utf-16"), "The file is UTF-16"),
        (b"PK\x03\x04workbook", "The file is a workbook or a zip archive"),
        (b"\x1f\x8b\x08\x00", "The file is compressed"),
    ],
)
def test_file_that_is_no_list_of_numbers_is_refused_in_one_line(load, text, message):
    with pytest.raises(CommandError, match=message):
        load(text)
    assert not InventoryNumber.objects.exists()


def test_missing_file_is_refused_in_one_line():
    with pytest.raises(CommandError, match=r"missing\.csv: No such file or directory"):
        call_command("import_inventory", "missing.csv")


def test_line_numbers_are_those_of_an_editor(load):
    (line,) = refusals(load, "number\n\n+12125550142\n\nnonsense\n")
    assert line.startswith("line 5: ")


def test_memory_stays_flat_over_long_files_and_endless_lines(tmp_path):
    long, endless = tmp_path / "long.csv", tmp_path / "endless.csv"
    with long.open("w") as file:
        file.write("number\n")
        file.writelines(
            f"+1212{n // 10000:03}{n % 10000:04}\n" for n in range(2_000_000, 2_100_000)
        )
    with endless.open("w") as file:
        file.write("number\n")
        file.writelines("x" * 10_000 for _ in range(1000))
    for path in (long, endless):
        tracemalloc.start()
        counted = sum(1 for _ in rows(path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert counted in {100_000, 1}
        assert peak < 2_000_000


def test_table_left_behind_would_not_stop_the_next_import(load):
    load("number\n+12125550142\n")
    load("number\n+12125550143\n")
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pg_temp.incoming')")
        assert cursor.fetchone() == (None,)


@pytest.mark.django_db(transaction=True)
def test_exit_status_tells_programs_what_happened(tmp_path, process_environment):
    def run(text, *options):
        file = tmp_path / "stock.csv"
        file.write_text(text)
        return subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", "import_inventory", str(file), *options],
            cwd=ROOT,
            env=os.environ | process_environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    refused = run("number\n+12125550142\nnonsense\n")
    assert refused.returncode == 1
    assert refused.stdout.startswith("line 3: nonsense")
    assert "1 of 2 rows are bad. Nothing was loaded." in refused.stderr
    assert not InventoryNumber.objects.exists()
    assert run("number\n+12125550142\nnonsense\n", "--skip-bad").returncode == 0
    assert InventoryNumber.objects.count() == 1
