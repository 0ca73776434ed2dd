"""The `streamserve` command: its flags are the table of settings."""

import os
import platform
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NoReturn

import click

from streamserve import __version__
from streamserve.application import load_app
from streamserve.errors import ConfigurationError
from streamserve.logs.server_log import configure_logging
from streamserve.settings import Entry, Settings, entries
from streamserve.settings.other_servers import BORROWED, SHORT_FLAGS, BorrowedFlag
from streamserve.settings.sources import (
    closest,
    read_settings,
    tell_public_secrets,
    tell_unknown_variables,
    to_toml,
    toml_value,
)

__all__ = ["main"]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # as the shell reports a death by SIGINT

HELP_COLUMN = 27

EPILOG = """Every setting is also an environment variable (--head-timeout: STREAMSERVE_HEAD_TIMEOUT) and a key of
streamserve.toml or of [tool.streamserve] in pyproject.toml (head_timeout = "5s"). A flag comes before a variable, a
variable before a file. Sizes take k, m or g; times take ms, s, m or h."""

ABOUT = """Serve a WSGI application, or run a program.

APPLICATION is module:attribute, or module:factory() for a function that makes it; without an
attribute it is application, or else app. SIGINT and SIGTERM stop the server once the running
requests have finished; a second one stops it at once.

`streamserve run script.py` and `streamserve run -m module` run a program as python does, patched."""

ABOUT_RUN = """Run a Python program whose waiting lets others run.

The standard library is patched before anything of the program is imported. PROGRAM is a script, or with -m a module;
what follows it is the program's own."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits: 0 after serving, 2 if the person who started it has to correct something.

    Args:
        arguments: The command line without the program's name; sys.argv's by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["run"]:
            sys.exit(_run_command().main(_closed(given[1:]), prog_name="streamserve run", standalone_mode=False))
        sys.exit(_command().main(given, prog_name="streamserve", standalone_mode=False))
    except click.UsageError as problem:
        _fail(_usage_line(problem))
    except click.ClickException as problem:
        _fail(problem.format_message())
    except ConfigurationError as problem:
        _fail(str(problem), problem.details)
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)


def _fail(line: str, details: str = "") -> NoReturn:
    if details:
        click.echo(details, err=True)
    click.echo("streamserve: error: " + " ".join(line.split()), err=True)
    sys.exit(EXIT_USAGE)


def _usage_line(problem: click.UsageError) -> str:
    if isinstance(problem, click.NoSuchOption):
        shown = [parameter for parameter in _command().params if not isinstance(parameter, BorrowedOption)]
        known = [option for parameter in shown for option in parameter.opts if option.startswith("--")]
        hint = closest(problem.option_name, known) or "; streamserve --help lists the flags"
        return f"unknown flag {problem.option_name}{hint}"
    return f"{problem.format_message().rstrip('.')}; streamserve --help shows the usage"


def _closed(arguments: list[str]) -> list[str]:
    """Marks where the program's own arguments begin: after `-m module`, or at the script."""
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        return [*arguments[:2], "--", *arguments[2:]]
    return arguments


def _run_command() -> click.Command:
    return click.Command(
        "run",
        callback=_run_program,
        help=ABOUT_RUN,
        context_settings={"help_option_names": ["-h", "--help"], "allow_interspersed_args": False},
        params=[
            click.Option(["-m", "module"], metavar="MODULE", help="Run a module, as python -m does."),
            click.Argument(["program"], nargs=-1, metavar="PROGRAM [ARGUMENTS]...", type=click.UNPROCESSED),
        ],
    )


def _run_program(module: str | None, program: tuple[str, ...]) -> int:
    if module is None and not program:
        raise click.UsageError("no program is given; run `streamserve run script.py` or `streamserve run -m module`")
    from streamserve.debug.oversight import watch_loop  # with the loop, which --help does without
    from streamserve.logs.server_log import write_past_locks
    from streamserve.monkey.script import run_module, run_script

    configure_logging("info")
    limit = _block_warning()

    def begin() -> None:
        watch_loop(limit, write_past_locks)

    if module is not None:
        return run_module(module, program, begin)
    return run_script(program[0], program[1:], begin)


def _block_warning() -> float:
    """The setting, for a program that has no other: from its variable, or the default."""
    variable = "STREAMSERVE_BLOCK_WARNING"
    given: Any = os.environ.get(variable)
    return (Settings(block_warning=given, origins={"block_warning": variable}) if given else Settings()).block_warning


class GroupedCommand(click.Command):
    """A command whose help lists the settings under the headings of their table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for heading, group in groupby(options, key=_heading):
            records = [record for option in group if (record := option.get_help_record(ctx)) is not None]
            with formatter.section(heading):  # one width for all sections, so that the texts stand in one column
                formatter.write_dl([(flag.ljust(HELP_COLUMN), text) for flag, text in records], col_max=HELP_COLUMN)


def _heading(option: click.Option) -> str:
    return option.group if isinstance(option, SettingOption) else "Command"


class SettingOption(click.Option):
    """The flag of one setting. Its value stays text: validation is the table's, whatever the value came from."""

    def __init__(self, entry: Entry) -> None:
        listed = entry.default if isinstance(entry.default, tuple) else ()
        default = ",".join(map(str, listed)) or toml_value(entry.default).strip('[]"')
        is_switch = not entry.kind.metavar
        notes = [entry.kind.unit, f"default {default}" if default and not is_switch else ""]
        flag: dict[str, Any] = {"is_flag": True, "flag_value": "off", "type": str, "default": None}
        super().__init__(
            [*_short(entry.name), entry.flag, entry.name],
            metavar=entry.kind.metavar or None,
            multiple=entry.kind.several,
            **(flag if is_switch else {}),
            help=f"{entry.help} [{', '.join(filter(None, notes))}]".removesuffix(" []"),
        )
        self.group = entry.group


class BorrowedOption(click.Option):
    """A flag of another server: taken where it means the same, else a hint. No help lists it."""

    def __init__(self, row: BorrowedFlag) -> None:
        def check(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
            if value is not None and (problem := row.problem(value)):
                raise ConfigurationError(problem)
            return value

        switch: dict[str, Any] = {} if row.takes_value else {"is_flag": True, "flag_value": "on", "type": str}
        super().__init__([*row.flags, row.name], default=None, hidden=True, callback=check, **switch)


def _short(name: str) -> list[str]:
    return [SHORT_FLAGS[name]] if name in SHORT_FLAGS else []


def _command() -> GroupedCommand:
    settings = [SettingOption(entry) for entry in entries() if entry.name != "app"]
    return GroupedCommand(
        "streamserve",
        callback=_run,
        help=ABOUT,
        epilog=EPILOG,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        params=[
            click.Argument(["app"], required=False, metavar="[APPLICATION]"),
            *settings,
            *map(BorrowedOption, BORROWED),
            click.Option([*_short("config"), "--config"], metavar="FILE", help="Read settings from this TOML file."),
            click.Option(["--check-config"], is_flag=True, help="Load the application, listen nowhere, and exit."),
            click.Option(["--print-config"], is_flag=True, help="Print the settings and where each came from."),
            click.Option(
                [*_short("version"), "--version"], is_flag=True, is_eager=True, expose_value=False,
                callback=_print_version, help="Print the version and exit.",
            ),
        ],
    )  # fmt: skip


def _run(config: str | None, check_config: bool, print_config: bool, **flags: Any) -> int:
    settings = read_settings(_in_our_words(flags), os.environ, config)
    configure_logging(settings.log_level, settings.log_config)  # before what importing the application has to say
    tell_unknown_variables(os.environ)
    tell_public_secrets(settings)
    if print_config:
        click.echo(to_toml(settings))
    if check_config:
        from streamserve.tls.certificates import load_certificates

        load_app(settings.app, settings.chdir, patch=settings.patch)
        load_certificates(settings)
        click.echo("configuration is valid", err=print_config)
    if print_config or check_config:
        return 0
    # Imported here because it brings the loop with it, which --help and --print-config do without.
    from streamserve.cluster.worker import Worker

    return Worker(settings).run()


def _in_our_words(flags: dict[str, Any]) -> dict[str, Any]:
    """What was given, by the names of the settings; a flag of ours counts more than another server's."""
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    borrowed = [(row.setting, given.pop(row.name)) for row in BORROWED if row.name in given]
    return {**{setting: value for setting, value in borrowed if setting}, **given}


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"streamserve {__version__} ({platform.python_implementation()} {platform.python_version()})")
        context.exit()
