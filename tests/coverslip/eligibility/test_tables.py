from coverslip.eligibility.tables import markdown
from tests.paths import ROOT


def test_the_page_holds_the_tables_of_the_code() -> None:
    page = (ROOT / "docs" / "eligibility.md").read_text(encoding="utf-8")
    for table in markdown().split("\n\n"):
        assert table.strip() in page, "python -m coverslip.eligibility.tables prints the tables"
