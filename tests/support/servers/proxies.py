"""nginx and haproxy between a client and the server of a test, as the page on proxies configures them."""

import re
from pathlib import Path

from tests.support.servers.daemon import Daemon, Program

PAGE = (Path(__file__).parents[3] / "docs" / "behind-a-proxy.md").read_text()
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
"""


def blocks(language: str) -> list[str]:
    """The configurations that the page shows for a program."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


class Proxy(Daemon):
    """A program with a configuration of the page, between a free port and the server."""

    def __init__(self, block: str, target: int) -> None:
        self.block = block.replace("127.0.0.1:8000", f"127.0.0.1:{target}")
        super().__init__()

    def configured(self) -> str:
        """The file with the configuration for the present port."""
        text, count = re.subn(r"(listen|bind) :?80\b", rf"\1 127.0.0.1:{self.port}", self.block)
        assert count == 1
        path = self.folder / "configuration"
        path.write_text(self.around(text))
        return str(path)

    def around(self, text: str) -> str:
        return text


class Nginx(Proxy):
    program = Program("nginx", "nginx")

    def around(self, text: str) -> str:
        return AROUND.format(folder=self.folder, block=text)

    def command(self) -> list[str]:
        return [str(self.executable), "-e", "stderr", "-p", str(self.folder), "-c", self.configured()]


class Haproxy(Proxy):
    program = Program("haproxy", "haproxy")

    def command(self) -> list[str]:
        return [str(self.executable), "-db", "-f", self.configured()]
