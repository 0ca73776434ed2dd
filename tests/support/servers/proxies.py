"""nginx, Apache and haproxy between a client and the server of a test, as the page on proxies configures them."""

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

APACHE = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
{block}
"""
APACHE_MODULES = ("mpm_event", "authz_core", "headers", "proxy", "proxy_http", "unique_id")


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
        text, count = re.subn(r"(listen|bind|VirtualHost) (?:\*?:)?80\b", rf"\1 127.0.0.1:{self.port}", self.block)
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


class Apache(Proxy):
    program = Program("apache2", "apache2-bin")

    def around(self, text: str) -> str:
        folder = "/usr/lib/apache2/modules"
        modules = "\n".join(f"LoadModule {name}_module {folder}/mod_{name}.so" for name in APACHE_MODULES)
        return APACHE.format(folder=self.folder, port=self.port, modules=modules, block=text)

    def command(self) -> list[str]:
        return [str(self.executable), "-DFOREGROUND", "-d", str(self.folder), "-f", self.configured()]


class Haproxy(Proxy):
    program = Program("haproxy", "haproxy")

    def command(self) -> list[str]:
        return [str(self.executable), "-db", "-f", self.configured()]
