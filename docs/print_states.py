"""Writes docs/connection-states.md from the core: `python docs/print_states.py`.

The states and their meaning come from `enum ss_conn_state` in http/http.h, the moves
from `legal_moves` in connection.c. What brings each move about is written here;
a move without its cause, or a cause without its move, is an error.
"""

import re
from pathlib import Path

PAGE = Path(__file__).with_name("connection-states.md")
CORE = PAGE.parents[1] / "streamserve" / "core"

CAUSES = {
    ("HEAD", "BODY"): "the head is complete, its small or chunked body is not",
    ("HEAD", "REQUEST"): "the head is complete and the request reported",
    ("HEAD", "FLUSH"): "the core refuses, and the socket does not take the whole answer, or TLS is to say goodbye",
    ("HEAD", "LINGER"): "the core refuses: a bad head, the head deadline, too many connections",
    ("HEAD", "CLOSED"): "the peer is gone, or the idle deadline passed, or the server stops",
    ("BODY", "REQUEST"): "the body is complete, or larger than what is awaited, and the request reported",
    ("BODY", "FLUSH"): "the core refuses, and the socket does not take the whole answer",
    (
        "BODY",
        "LINGER",
    ): "the core refuses: the body deadline, a bad chunk, a body that breaks off, too large, no memory",
    ("BODY", "CLOSED"): "the peer is gone",
    ("REQUEST", "HEAD"): "the response is out and the connection persists",
    ("REQUEST", "FLUSH"): "the response is complete, but part of it is queued",
    ("REQUEST", "DISCARD"): "the response is out, but a droppable rest of the body is unread",
    ("REQUEST", "LINGER"): "the response is out, the connection ends, and input is unread",
    ("REQUEST", "CLOSED"): "the response is out and the connection ends, or it was aborted, detached or is dead",
    ("FLUSH", "HEAD"): "the queue is empty and the connection persists",
    ("FLUSH", "DISCARD"): "the queue is empty, but a droppable rest of the body is unread",
    ("FLUSH", "LINGER"): "the queue is empty, the connection ends, and input is unread",
    ("FLUSH", "CLOSED"): "the queue is empty and the connection ends, or the write deadline passed, or it is dead",
    ("DISCARD", "HEAD"): "the body has ended",
    ("DISCARD", "FLUSH"): "with TLS, before LINGER: the peer is told that we end",
    ("DISCARD", "LINGER"): "the rest is malformed, or does not end in time, or the server stops",
    ("DISCARD", "CLOSED"): "the peer is gone",
    ("LINGER", "CLOSED"): "the peer closed, or the deadlines of what is dropped passed, or a megabyte of garbage came",
}

INTRODUCTION = """\
<!-- Written by docs/print_states.py from streamserve/core/http/connection.c and http.h: edit those. -->

# The states of a connection

The core moves a connection only along `legal_moves` in `streamserve/core/http/connection.c`. A move that is not in the
table is recorded, and `ss_verify` reports it after the test in which it happened. A new connection begins in HEAD.
`ss_listener_close` ends a connection in any state, so every state leads to CLOSED.
"""

State = str
Moves = dict[State, list[State]]


def read_states(header: str) -> dict[State, str]:
    """Returns the states of `enum ss_conn_state` in its order, with their comments.

    Raises:
        ValueError: the header has no such enum.
    """
    enum = re.search(r"enum ss_conn_state \{(.*?)\n\};", header, re.DOTALL)
    if enum is None:
        raise ValueError("http.h has no enum ss_conn_state: teach docs/print_states.py where the states are")
    lines = re.findall(r"SS_CONN_(\w+)(?: = 0)?,(?:\s*/\* (.*?) \*/)?", enum[1])
    return {name: meaning or "the descriptor is closed and the memory free" for name, meaning in lines}


def read_moves(source: str, states: dict[State, str]) -> Moves:
    """Returns where each state may go, as `legal_moves` says.

    Raises:
        ValueError: the table is missing, or has a state that the enum has not, or the reverse.
    """
    table = re.search(r"legal_moves\[SS_CONN_STATES\] = \{(.*?)\n\};", source, re.DOTALL)
    if table is None:
        raise ValueError("connection.c has no table legal_moves: teach docs/print_states.py where the moves are")
    rows = re.findall(r"\[SS_CONN_(\w+)\] =(.*?),\n", table[1] + "\n", re.DOTALL)
    moves = {state: re.findall(r"TO\(SS_CONN_(\w+)\)", row) for state, row in rows}
    named = {*moves, *(target for targets in moves.values() for target in targets)}
    if set(moves) != set(states) or not named <= set(states):
        raise ValueError(f"legal_moves names {sorted(named)}, the enum has {sorted(states)}")
    return moves


def render() -> str:
    """The whole page.

    Raises:
        ValueError: the core and CAUSES do not have the same moves.
    """
    states = read_states((CORE / "http/http.h").read_text())
    moves = read_moves((CORE / "http/connection.c").read_text(), states)
    pairs = [(state, target) for state in states for target in states if target in moves[state]]
    if differing := set(pairs) ^ set(CAUSES):
        raise ValueError(f"CAUSES in docs/print_states.py and legal_moves differ in {sorted(differing)}")
    return "\n".join([INTRODUCTION, _meanings(states), _matrix(moves, list(states)), _diagram(pairs), _causes(pairs)])


def _meanings(states: dict[State, str]) -> str:
    rows = [f"| {name} | {meaning} |" for name, meaning in states.items()]
    return "\n".join(["| state | meaning |", "|---|---|", *rows, ""])


def _matrix(moves: Moves, states: list[State]) -> str:
    """From the row's state to the column's."""
    targets = [state for state in states if any(state in reached for reached in moves.values())]
    rows = [f"| {state} | {' | '.join('x' if to in moves[state] else ' ' for to in targets)} |" for state in states]
    heading = [f"| from \\ to | {' | '.join(targets)} |", "|---" * (len(targets) + 1) + "|"]
    return "\n".join(["## The table", "", *heading, *rows, ""])


def _diagram(pairs: list[tuple[State, State]]) -> str:
    arrows = [f"    {state} --> {target}" for state, target in pairs]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> HEAD", *arrows, "    CLOSED --> [*]", "```"]
    return "\n".join(["## The diagram", "", *lines, ""])


def _causes(pairs: list[tuple[State, State]]) -> str:
    rows = [f"| {state} → {target} | {CAUSES[state, target]} |" for state, target in pairs]
    return "\n".join(["## What brings a move about", "", "| move | when |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(render())
