"""Reads every line that a busy server logs at its most talkative, and holds it to `deploy/logs.schema.json`."""

import json
import pathlib
import signal
import subprocess

import conftest
import jsonschema_rs
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SECRET_TEXT = "the-word-nobody-may-log"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-Id": "request-1"}


@pytest.fixture(scope="module")
def lines(binary, tmp_path_factory):
    """What a server logs that is asked, asked wrongly, left, told to swap, and stopped."""
    folder = tmp_path_factory.mktemp("logs")
    port = conftest.free_port()
    environment = {**conftest.environment(folder, port), "LOG_LEVEL": "trace", "LOG_FORMAT": "json"}
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen([binary], cwd=folder, env=environment, stdout=stdout, stderr=stderr)
    try:
        server = conftest.ready(conftest.Server(f"http://127.0.0.1:{port}"), process, folder / "stdout")
        told = server.generate(SECRET_TEXT, headers=HEADERS)
        assert b'"done":true' in told.content
        assert told.headers["X-Trace-Id"] == TRACE and told.headers["traceparent"].split("-")[1] == TRACE
        server.generate(SECRET_TEXT, headers={"X-Trace-Id": "trace-2"}, max_tokens=9999)
        server.generate(SECRET_TEXT, headers={"X-Request-Id": "request-3"}, max_tokens=4096).close()
        server.call("GET", "/stats", key=SECRET_TEXT)
        server.call("GET", "/nothing")
        server.call("POST", "/models/swap", json={"model_tag": "absent"})
        server.call("POST", "/models/swap", json={"model_tag": "samosa-mini"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(conftest.STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert (folder / "stderr").read_text() == ""
    return [json.loads(line) for line in (folder / "stdout").read_text().splitlines()]


def test_every_line_fits_the_schema(lines):
    schema = json.loads((ROOT / "deploy/logs.schema.json").read_text())
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert len(lines) > 10
    for line in lines:
        for error in validator.iter_errors(line):
            pytest.fail(f"{error.message} in {line}")


def test_requests_are_found_by_their_traces(lines):
    def of(trace):
        return [line for line in lines if line.get("trace_id") == trace]

    assert [line["message"] for line in of(TRACE)] == ["request", "stream ended"]
    assert of(TRACE)[1]["inference_time_ms"] > 0 and of(TRACE)[1]["request_id"] == "request-1"
    assert [line.get("error") for line in of("trace-2")] == ["invalid_max_tokens"]
    assert of("request-3")[0]["request_id"] == "request-3", "a request's id is its trace where it names none"
    assert all("trace_id" in line for line in lines if line["message"].startswith("request"))


def test_nothing_that_was_said_is_logged(lines):
    text = json.dumps(lines)
    assert SECRET_TEXT not in text and conftest.KEY not in text
