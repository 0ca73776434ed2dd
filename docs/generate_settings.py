"""Writes docs/settings.md from the table in streamserve/settings/table.py: `python docs/generate_settings.py`."""

from itertools import groupby
from pathlib import Path

from streamserve.settings import Entry, entries
from streamserve.settings.sources import toml_value

PAGE = Path(__file__).with_name("settings.md")

INTRODUCTION = """\
<!-- Written by docs/generate_settings.py from the table in streamserve/settings/table.py: edit that. -->

# Settings

Each setting has one name in three spellings: a flag, an environment variable and a key of `streamserve.toml` or of
`[tool.streamserve]` in `pyproject.toml`, both looked for in the working directory unless `--config` or
`STREAMSERVE_CONFIG` names a file. A flag comes before a variable, a variable before a file, a file before the default.

    streamserve site:application --head-timeout 5s
    STREAMSERVE_HEAD_TIMEOUT=5s streamserve site:application
    echo 'head_timeout = "5s"' >> streamserve.toml

Sizes are bytes or a number with `k`, `m` or `g` (1024, 1024², 1024³). Times are seconds or a number with `ms`, `s`, `m`
or `h`. `--bind` may be repeated; its variable separates addresses by commas or blanks, its key takes a list.
`streamserve --print-config` shows what is in force and where each value came from.
"""


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for heading, group in groupby(entries(), key=lambda entry: entry.group):
        rows = [_row(entry) for entry in group]
        parts.append(
            "\n".join([f"## {heading}\n", "| key | flag | default | meaning |", "|---|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _row(entry: Entry) -> str:
    written = f"{entry.flag} {entry.kind.metavar}".rstrip().replace("|", "\\|")
    flag = "the argument" if entry.name == "app" else f"`{written}`"
    unit = f" ({entry.kind.unit})" if entry.kind.unit else ""
    return f"| `{entry.name}` | {flag} | `{toml_value(entry.default)}`{unit} | {entry.help} |"


if __name__ == "__main__":
    PAGE.write_text(render())
