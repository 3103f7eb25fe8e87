"""The tables of ``docs/eligibility.md``: ``python -m coverslip.eligibility.tables`` prints them."""

from __future__ import annotations

from coverslip.eligibility.burned_in import TEXT_RULES
from coverslip.eligibility.exclusions import EXCLUSIONS


def markdown() -> str:
    """Write both tables in Markdown, as ``docs/eligibility.md`` holds them.

    Returns
    -------
    str
    """
    lines = [
        "| kind | what it covers | why its pixels do not carry | `--allow` |",
        "|---|---|---|---|",
    ]
    for row in EXCLUSIONS:
        allowed = "yes" if row.may_be_allowed else "never"
        lines.append(f"| `{row.kind.value}` | {row.covers} | {row.why} | {allowed} |")
    lines += ["", "| source of text | what it covers | why text is likely |", "|---|---|---|"]
    lines += (f"| `{rule.source.value}` | {rule.covers} | {rule.why} |" for rule in TEXT_RULES)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
