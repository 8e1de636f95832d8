"""One server for all tests: the built binary, on a free loopback port, with its built-in model."""

import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
import requests

KEY = "contract-test-key"
START_SECONDS = 60
STOP_SECONDS = 60


def pytest_addoption(parser):
    parser.addoption("--binary", required=True, help="the samosa binary to test")
    parser.addoption("--forms", default=300, help="how many random schemas to try, and twice as many as grammars")


@dataclasses.dataclass
class Server:
    url: str
    key: str = KEY

    def call(self, method, path, key=KEY, timeout=30, **arguments):
        headers = arguments.pop("headers", {})
        if key is not None:
            headers = {"X-Internal-API-Key": key, **headers}
        return requests.request(method, self.url + path, headers=headers, timeout=timeout, **arguments)

    def generate(self, content="What is 12 * 7?", headers=None, **fields):
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.call("POST", "/generate", json=body, headers=headers or {}, stream=True)


@pytest.fixture(scope="session")
def binary(request):
    return pathlib.Path(request.config.getoption("--binary")).resolve()


@pytest.fixture(scope="session")
def server(binary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    log = folder / "log.jsonl"
    with log.open("w") as output:
        process = subprocess.Popen([binary], cwd=folder, env=environment(folder, port), stdout=output, stderr=output)
    try:
        yield ready(Server(f"http://127.0.0.1:{port}"), process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, "a server that is told to stop exits with 0"
    finally:
        process.kill()
        process.wait()


def environment(folder, port):
    """Nothing of the caller's settings but the instruction set: what this server needs, and where programs are found."""
    (folder / "models").mkdir()
    return {
        "ISA": os.environ.get("ISA", "auto"),
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "INTERNAL_API_KEY": KEY,
        "MODEL_STORAGE_PATH": str(folder / "models"),
        # There is no model yet: without a name the start would be refused.
        "DEFAULT_MODEL_TAG": "samosa-mini",
        # A generated request seldom names max_tokens: short answers keep the run short.
        "DEFAULT_MAX_TOKENS": "16",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(server, process, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(server.url + "/health", timeout=5).json()["ready"]:
                return server
        except requests.RequestException:
            pass
        time.sleep(0.05)
    pytest.exit(f"the server was not ready within {START_SECONDS} s; it wrote:\n{log.read_text()[-4000:]}", 1)
