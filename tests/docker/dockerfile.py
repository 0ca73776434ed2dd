"""Reads a Dockerfile as far as ours goes: no heredocs, no ONBUILD, no escapes but the line's last backslash."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path, PurePosixPath


@dataclass
class Instruction:
    name: str
    flags: dict[str, str]
    argument: str

    @property
    def exec_form(self) -> list[str] | None:
        """The words of a JSON array, or None if the argument is a shell line."""
        return json.loads(self.argument) if self.argument.startswith("[") else None


@dataclass
class Stage:
    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction:
        """The instruction of that name that counts: the last one."""
        return [instruction for instruction in self.instructions if instruction.name == name][-1]


def read_dockerfile(text: str) -> list[Stage]:
    """Returns the stages in order, ARGs before the first FROM put in."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in map(_instruction, _logical_lines(text)):
        if instruction.name == "FROM":
            words = expand(instruction.argument, arguments).split()
            stages.append(Stage(words[0], words[2] if len(words) == 3 else None))
        elif not stages:
            assert instruction.name == "ARG", instruction
            name, _, value = instruction.argument.partition("=")
            arguments[name] = value
        else:
            stages[-1].instructions.append(instruction)
    return stages


def expand(text: str, variables: dict[str, str]) -> str:
    """Puts values in for $NAME and ${NAME}; an unknown one becomes empty."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: variables.get(match[1] or match[2], ""), text)


def assignments(argument: str) -> dict[str, str]:
    """The pairs of an ENV line."""
    return dict(word.split("=", 1) for word in shlex.split(argument))


def read_context(root: Path) -> list[Path]:
    """Returns the files under root that .dockerignore lets through, relative to root."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return sorted(_walk(root, Path(), patterns))


def _walk(root: Path, folder: Path, patterns: list[str]) -> Iterator[Path]:
    for entry in (root / folder).iterdir():
        path = folder / entry.name
        if not entry.is_dir():
            if not _ignored(path, patterns):
                yield path
        elif not _ignored(path, patterns) or any(pattern.startswith(f"!{path}/") for pattern in patterns):
            yield from _walk(root, path, patterns)


def _ignored(path: Path, patterns: list[str]) -> bool:
    """The last pattern that matches the path or a folder above it decides."""
    candidates = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
    ignored = False
    for pattern in patterns:
        expression = _expression(pattern.removeprefix("!"))
        if any(re.fullmatch(expression, str(candidate)) for candidate in candidates):
            ignored = not pattern.startswith("!")
    return ignored


def _expression(pattern: str) -> str:
    """A pattern as a regular expression: `*` stays within a folder, `**/` is any number of folders."""
    if pattern.startswith("**/"):
        return "(?:.*/)?" + _expression(pattern.removeprefix("**/"))
    return translate(pattern).replace(".*", "[^/]*")


def _logical_lines(text: str) -> list[str]:
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [" ".join(line.split()) for line in "\n".join(kept).replace("\\\n", " ").splitlines()]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    flags: dict[str, str] = {}
    while match := re.match(r"--([\w-]+)=(\S+) ", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    return Instruction(name, flags, rest)
