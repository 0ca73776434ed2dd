"""Replays the Dockerfile without an engine, then runs the image's default command as compose.yaml would.

    python -m tests.docker.replay        (as root, with debootstrap; `make docker-replay`)

Each stage starts from a clean Debian root that debootstrap made, with Debian's
Python in the place of the python:slim image. RUN lines run under chroot. The
default command runs as process 1 of its own PID and network namespaces, on
read-only files, as the image's user, without capabilities. Then the port must
answer, the health check must tell a server from none, and SIGTERM must end
it with code 0. The base is kept in build/docker-replay/ for the next run.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from tests.docker.dockerfile import Instruction, Stage, assignments, expand, read_context, read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/docker-replay"
BASE = WORK / "base"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,python3-pip,python3-dev,ca-certificates"
# What the python:slim image sets, as far as it matters here.
IMAGE_ENV = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# How this machine reaches the package indexes: an engine's build has its own ways.
MACHINE_FILES = ["/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"]
MACHINE_ENV = {
    name: value
    for name, value in os.environ.items()
    if name.startswith("PIP_") or name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") or name.lower().endswith("_proxy")
}
START_SECONDS = 20
STOP_SECONDS = 35


class Image:
    """A root folder with what the instructions said about it."""

    def __init__(self, stage: Stage, root: Path) -> None:
        self.stage = stage
        self.root = root
        self.env = dict(IMAGE_ENV)
        self.folder = "/"
        self.user = "0:0"

    def inside(self, path: str) -> Path:
        """The path here for one of the image's."""
        return self.root / str(Path(self.folder) / path).lstrip("/")

    def build(self, others: dict[str, "Image"], context: list[Path]) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", BASE, self.root], check=True)
        for instruction in self.stage.instructions:
            print(f"  {instruction.name} {instruction.argument[:100]}", flush=True)
            if instruction.name == "RUN":
                self.run(instruction.argument)
            elif instruction.name == "COPY":
                self.copy(instruction, others, context)
            elif instruction.name == "ENV":
                self.env |= assignments(expand(instruction.argument, self.env))
            elif instruction.name == "WORKDIR":
                self.folder = str(Path(self.folder) / instruction.argument)
                self.inside(".").mkdir(parents=True, exist_ok=True)
            elif instruction.name == "USER":
                self.user = instruction.argument

    def run(self, line: str) -> None:
        assert self.user == "0:0", "RUN after USER is not replayed"
        words = ["env", "-i", "-C", self.folder, *pairs(self.env | MACHINE_ENV), "/bin/sh", "-c", line]
        script = f"mount -t proc proc {self.root}/proc && exec chroot {self.root} {shlex.join(words)}"
        log = WORK / "run.log"
        with log.open("wb") as output:
            result = subprocess.run(
                ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script], stdout=output, stderr=subprocess.STDOUT
            )
        if result.returncode != 0:
            print(log.read_text(errors="replace")[-4000:])
            fail(f"RUN ended with {result.returncode}: {line}")

    def copy(self, instruction: Instruction, others: dict[str, "Image"], context: list[Path]) -> None:
        *sources, target = instruction.argument.split()
        into = self.inside(target)
        if "from" in instruction.flags:
            other = others[instruction.flags["from"]]
            into.parent.mkdir(parents=True, exist_ok=True)
            for source in sources:
                subprocess.run(["cp", "-a", other.inside(source), into], check=True)
            return
        for source in map(Path, sources):
            files = [path for path in context if path == source or source in path.parents]
            if not files:
                fail(f"COPY finds nothing: {source}")
            for path in files:
                place = into / path.relative_to(source) if path != source else into / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, place)

    def words(self, command: list[str]) -> list[str]:
        """A command as the image's user runs it, with nothing to gain from setuid files."""
        uid, _, gid = self.user.partition(":")
        confined = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        who = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *confined]
        return [*who, "env", "-i", "-C", self.folder, *pairs(self.env), *command]

    def start(self, command: list[str], stderr: int | None = None) -> subprocess.Popen[bytes]:
        """Starts the command as process 1 of a read-only container without a network."""
        root = shlex.quote(str(self.root))
        script = (
            f"ip link set lo up && mount --bind {root} {root} && mount -t tmpfs tmpfs {root}/tmp"
            f" && mount -t proc proc {root}/proc && mount -o remount,bind,ro {root}"
            f" && exec chroot {root} {shlex.join(self.words(command))}"
        )
        return subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", script], stderr=stderr)

    def execute(self, process: int, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command beside the one that runs: docker exec."""
        enter = ["nsenter", f"--target={process}", "--mount", "--pid", "--net", "--root", "--wd"]
        return subprocess.run([*enter, *self.words(command)], capture_output=True, text=True)


def pairs(env: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in env.items()]


def fail(reason: str) -> NoReturn:
    sys.exit(f"docker-replay: {reason}")


def make_base() -> None:
    if BASE.exists():
        return
    print(f"debootstrap {SUITE}: about a minute, the first time only", flush=True)
    fresh = WORK / "base.part"
    shutil.rmtree(fresh, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "debootstrap.log").open("wb") as log:
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(fresh), MIRROR]
        if subprocess.run(command, stdout=log, stderr=log).returncode != 0:
            fail(f"debootstrap failed, see {log.name}")
    for name, target in {"python": "python3", "pip": "pip3"}.items():
        (fresh / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    for marker in fresh.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        marker.unlink()
    for name in filter(os.path.exists, MACHINE_FILES):
        shutil.copy(name, fresh / name.lstrip("/"))
    fresh.rename(BASE)


def replay() -> Image:
    images: dict[str, Image] = {}
    context = read_context(ROOT)
    for number, stage in enumerate(read_dockerfile((ROOT / "Dockerfile").read_text())):
        print(f"stage {stage.name or number}, in the place of {stage.base}", flush=True)
        image = Image(stage, WORK / (stage.name or f"stage-{number}"))
        image.build(images, context)
        images[stage.name or str(number)] = image
    return image


def child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def wait_until_healthy(image: Image, server: subprocess.Popen[bytes], check: list[str]) -> int:
    """Returns the number of the server's process, here, once its health check passes."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            fail(f"the default command ended with {server.returncode}")
        if Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().strip():
            process = child_of(server.pid)
            if image.execute(process, check).returncode == 0:
                return process
        time.sleep(0.2)
    fail(f"not healthy after {START_SECONDS} s: {image.execute(child_of(server.pid), check).stderr}")


def check_default_command(image: Image) -> None:
    command = (image.stage.last("ENTRYPOINT").exec_form or []) + (image.stage.last("CMD").exec_form or [])
    check = Instruction("CMD", {}, image.stage.last("HEALTHCHECK").argument.removeprefix("CMD ")).exec_form or []
    for compiler in ("gcc", "cc"):
        if shutil.which(compiler, path=":".join(str(image.inside(part)) for part in IMAGE_ENV["PATH"].split(":"))):
            fail(f"the runtime has a compiler: {compiler}")

    nothing = image.start(check, stderr=subprocess.DEVNULL)
    if nothing.wait(timeout=START_SECONDS) == 0:
        fail("the health check passes where nothing listens")
    print("the health check fails where nothing listens")

    server = image.start(command)
    try:
        process = wait_until_healthy(image, server, check)
        owner = Path(f"/proc/{process}").stat()
        page = image.execute(
            process,
            ["python", "-c", "import urllib.request as u; r = u.urlopen('http://127.0.0.1:8000/'); print(r.status)"],
        )
        print(f"healthy, as {owner.st_uid}:{owner.st_gid}; / answers {page.stdout.strip() or page.stderr}")
        if page.stdout.strip() != "200" or f"{owner.st_uid}:{owner.st_gid}" != image.user:
            fail("the default command does not serve as it should")
        started = time.monotonic()
        os.kill(process, signal.SIGTERM)
        code = server.wait(timeout=STOP_SECONDS)
        print(f"SIGTERM ended it with code {code} after {time.monotonic() - started:.1f} s")
        if code != 0:
            fail("a stop must be clean")
    finally:
        if server.poll() is None:
            os.kill(child_of(server.pid), signal.SIGKILL)


def main() -> None:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        fail("needs root and debootstrap (apt-get install debootstrap)")
    make_base()
    check_default_command(replay())
    print("docker-replay: passed")


if __name__ == "__main__":
    main()
