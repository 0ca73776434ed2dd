"""docs/coming-from-gunicorn.md, "What lets others run": each row, while another request is answered or is not."""

import threading
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand

APPLICATION = """
import asyncio, multiprocessing, os, subprocess, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from flask import Flask
from streamserve import get_hub, sleep, spawn

app = Flask(__name__)
SECONDS = 0.6
SLEEP = ["sleep", str(SECONDS)]


def compute():
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        pass


def in_a_process():
    process = multiprocessing.Process(target=compute)
    process.start()
    process.join()


def in_a_pool():
    with multiprocessing.Pool(1) as pool:
        pool.map(abs, [1])
        pool.apply(time.sleep, (SECONDS,))


def by_a_queue():
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=lambda: (time.sleep(SECONDS), queue.put(1)))
    process.start()
    queue.get()
    process.join()


def by_a_pipe():
    near, far = multiprocessing.Pipe()
    process = multiprocessing.Process(target=lambda: (time.sleep(SECONDS), far.send(1)))
    process.start()
    near.recv()
    process.join()


def in_processes():
    with ProcessPoolExecutor(1) as executor:
        executor.submit(compute).result()


async def wait():
    await asyncio.gather(asyncio.sleep(SECONDS), asyncio.to_thread(time.sleep, SECONDS))


WAYS = {
    "captured": lambda: subprocess.run(SLEEP, capture_output=True),
    "timed": lambda: subprocess.run(SLEEP, timeout=60),
    "plain": lambda: subprocess.run(SLEEP),
    "system": lambda: os.system(" ".join(SLEEP)),
    "threadpool": lambda: get_hub().threadpool.apply(subprocess.run, (SLEEP,)),
    "executor": lambda: ThreadPoolExecutor(1).submit(time.sleep, SECONDS).result(),
    "computing": compute,
    "computing executor": lambda: ThreadPoolExecutor(1).submit(compute).result(),
    "process": in_a_process,
    "pool": in_a_pool,
    "queue": by_a_queue,
    "pipe": by_a_pipe,
    "processes": in_processes,
    "asyncio": lambda: asyncio.run(wait()),
}


@app.get("/<way>")
def run(way):
    longest = 0.0
    running = True

    def watch():
        nonlocal longest
        before = time.monotonic()
        while running:
            sleep(0.01)
            now = time.monotonic()
            longest, before = max(longest, now - before), now

    watcher = spawn(watch)
    sleep(0.02)
    WAYS[way]()
    running = False
    watcher.join()
    return str(longest)


@app.get("/async")
async def view():
    await asyncio.sleep(0.01)
    return "async"
"""

OTHERS_RUN = ["captured", "timed", "threadpool", "executor", "process", "pool", "queue", "pipe", "processes", "asyncio"]
OTHERS_WAIT = ["plain", "system", "computing", "computing executor"]


@pytest.mark.parametrize("way", OTHERS_RUN + OTHERS_WAIT)
def test_whether_others_run_meanwhile(tmp_path: Path, way: str) -> None:
    (tmp_path / "site_module.py").write_text(APPLICATION)
    with ServedCommand("site_module:app", "--block-warning", "0", cwd=tmp_path) as server:
        longest = float(requests.get(f"{server.url}/{way}", timeout=60).text)
    assert (longest < 0.4) is (way in OTHERS_RUN), f"nobody else ran for {longest} s of 0.6"


def test_async_views_of_flask_are_served_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "site_module.py").write_text(APPLICATION)
    with ServedCommand("site_module:app", cwd=tmp_path) as server:
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(requests.get(f"{server.url}/async", timeout=60).text))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["async"] * 8
