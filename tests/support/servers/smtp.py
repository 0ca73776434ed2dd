"""An SMTP server of the tests' own: aiosmtpd in a process of its own, which keeps the messages as files."""

import asyncio
import sys
from collections.abc import Sequence
from email import message_from_binary_file, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.handlers import Mailbox

from tests.support.servers.daemon import Daemon, Program

ROOT = Path(__file__).parents[3]


class Smtp(Daemon):
    """Takes mail for everyone on `port`.

    Args:
        seconds: How long it keeps each sender waiting after the last line of the message.
    """

    program = Program("python", "python3", (str(Path(sys.executable).parent),))
    gives_up_root = False  # nobody may be unable to read the environment that this Python is in

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        super().__init__()

    def command(self) -> Sequence[str]:
        handler = [f"{__name__}.SlowMailbox", str(self.folder / "mail"), str(self.seconds)]
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from aiosmtpd.main import main; main()"
        return [sys.executable, "-c", path, "-n", "-l", f"127.0.0.1:{self.port}", "-c", *handler]

    def messages(self) -> list[EmailMessage]:
        """What has arrived."""
        found = []
        for path in sorted((self.folder / "mail/new").glob("*")):
            with path.open("rb") as file:
                message = message_from_binary_file(file, policy=policy.default)
            assert isinstance(message, EmailMessage)
            found.append(message)
        return found


class SlowMailbox(Mailbox):
    """Puts each message into a Maildir and answers after some seconds."""

    def __init__(self, folder: str, seconds: float) -> None:
        super().__init__(folder)
        self.seconds = seconds

    @classmethod
    def from_cli(cls, parser: Any, *arguments: str) -> "SlowMailbox":
        folder, seconds = arguments
        return cls(folder, float(seconds))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        await asyncio.sleep(self.seconds)
        return str(await super().handle_DATA(server, session, envelope))
