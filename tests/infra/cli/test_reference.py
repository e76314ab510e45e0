"""The reference page is the commands."""

from infra.cli.reference import ANSWERS, PAGE, page


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(), "run: python -m infra.cli.reference"


def test_every_command_says_what_it_prints_as_json() -> None:
    text = page()

    assert {line[4:-1] for line in text.splitlines() if line.startswith("## `")} == set(ANSWERS)
    assert text.count("| `--json` |") == len(ANSWERS)
