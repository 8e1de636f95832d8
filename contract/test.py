"""Holds the built binary to `inference-api.yaml`, over HTTP, as its callers meet it.

    cargo xtask contract

Schemathesis makes requests of every form that the contract allows or forbids; the rest is a strict client,
which accepts exactly what the contract and the documents promise and nothing more.
"""

import json
import pathlib
import subprocess
import sys

import pytest
import yaml

import documented

HERE = pathlib.Path(__file__).parent
OPERATIONS = [key for key, _ in documented.operations(documented.contract())]
GUARDED = [key for key, operation in documented.operations(documented.contract()) if operation.get("security")]
USER = {"role": "user", "content": "Hello"}


def attack(server, document, folder, *flags):
    """Runs Schemathesis and fails with its report. It works in `folder`, where it may leave files."""
    schema = folder / "openapi.json"
    schema.write_text(json.dumps(document))
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [
        program, "--config-file", HERE / "schemathesis.toml", "run", schema, "--url", server.url,
        "--header", f"X-Internal-API-Key: {server.key}", "--no-color", *flags,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"


def test_contract_as_written(server, tmp_path):
    # It lists the statuses of success only, so every refusal would count as a status nobody documented.
    attack(server, documented.contract(), tmp_path, "--exclude-checks", "status_code_conformance")


def test_contract_with_its_errors(server, tmp_path):
    attack(server, documented.documented(), tmp_path)


def test_printed_document_holds_the_contract(binary):
    printed = subprocess.run([binary, "openapi"], capture_output=True, text=True, timeout=30, check=True)
    printed = dict(documented.operations(yaml.safe_load(printed.stdout)))
    for key, operation in documented.operations(documented.documented()):
        missing = operation["responses"].keys() - {str(status) for status in printed[key]["responses"]}
        assert not missing, f"{key} may answer {sorted(missing)} and does not say so"
        assert printed[key].get("security") == operation.get("security"), key


def test_health_is_public(server):
    answer = server.call("GET", "/health", key=None)
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "ok" and health["ready"] is True and health["current_model"]
    assert health["total_workers"] == len(health["workers"]) >= 1
    assert health["available_workers"] + health["busy_workers"] == health["total_workers"]
    assert health["draining"] is False
    assert all({"gpu_id", "device", "model_tag"} <= worker.keys() for worker in health["workers"])


def test_every_other_operation_asks_for_the_key():
    assert set(OPERATIONS) - set(GUARDED) == {("get", "/health")}


@pytest.mark.parametrize("key", [None, "", "wrong", "contract-test-key2", "CONTRACT-TEST-KEY", "contract-test-ke"])
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_key_is_checked_before_anything_else(server, method, path, key):
    assert_problem(server.call(method, path, key=key, data="{not json"), 401, "unauthorized", "Invalid internal API key")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_wrong_method_names_the_right_ones(server, method, path):
    answer = server.call("DELETE", path)
    assert_problem(answer, 405, "method_not_allowed")
    assert method.upper() in answer.headers["Allow"]


def test_unknown_route(server):
    assert_problem(server.call("GET", "/v0/nothing"), 404, "not_found")


def test_models_have_exactly_four_fields(server):
    body = server.call("GET", "/models").json()
    assert body.keys() == {"current_model", "models"}
    for model in body["models"]:
        assert model.keys() == {"model_tag", "source", "path", "loaded"}
        assert not model["path"].startswith("/")
    assert [m["model_tag"] for m in body["models"] if m["loaded"]] == [body["current_model"]]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"force_web_search": False}, 422, "unknown_field", "/force_web_search"),
        ({"stop/word~": 1}, 422, "unknown_field", "/stop~1word~0"),
        ({"messages": [{**USER, "name": "x"}]}, 422, "unknown_field", "/messages/0/name"),
        ({"messages": [USER, {"role": "user"}]}, 422, "missing_field", "/messages/1/content"),
        ({"messages": "Hello"}, 422, "wrong_type", "/messages"),
        ({"messages": [{"role": "user", "content": 1}]}, 422, "wrong_type", "/messages/0/content"),
        ({"top_k": "50"}, 422, "wrong_type", "/top_k"),
        ({"max_tokens": 1.5}, 422, "wrong_type", "/max_tokens"),
        ({"temperature": True}, 422, "wrong_type", "/temperature"),
        ({"messages": []}, 400, "no_messages", "/messages"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "empty_message", "/messages/0/content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_role", "/messages/0/role"),
        ({"messages": [USER, {"role": "system", "content": "x"}]}, 400, "invalid_role", "/messages/1/role"),
        ({"messages": [{"role": "user", "content": "x" * 8001}]}, 400, "message_too_long", "/messages/0/content"),
        ({"messages": [{"role": "user", "content": "x" * 8000}] * 5}, 400, "conversation_too_long", "/messages"),
        ({"temperature": 2.1}, 400, "invalid_temperature", "/temperature"),
        ({"temperature": -1}, 400, "invalid_temperature", "/temperature"),
        ({"top_k": 201}, 400, "invalid_top_k", "/top_k"),
        ({"top_k": -1}, 400, "invalid_top_k", "/top_k"),
        ({"top_k": 10**30}, 400, "invalid_top_k", "/top_k"),
        ({"max_tokens": 0}, 400, "invalid_max_tokens", "/max_tokens"),
        ({"max_tokens": 4097}, 400, "invalid_max_tokens", "/max_tokens"),
    ],
)
def test_generate_refuses(server, fields, status, code, param):
    problem = assert_problem(server.call("POST", "/generate", json={"messages": [USER], **fields}), status, code)
    assert problem["param"] == param


def test_an_empty_answer_may_come_back(server):
    turns = [USER, {"role": "assistant", "content": ""}, USER]
    with server.call("POST", "/generate", json={"messages": turns, "max_tokens": 1}, stream=True) as answer:
        assert answer.status_code == 200
        assert events(answer)[-1]["done"] is True


def test_a_large_body_that_is_refused_is_no_broken_pipe(server):
    body = b"[" + b" " * (5 << 20)
    post = lambda **rest: server.call("POST", "/generate", data=body, **rest)
    assert_problem(post(headers={"Content-Type": "application/json"}), 413, "body_too_large")
    assert_problem(post(headers={"Content-Type": "text/plain"}), 415)
    assert_problem(post(headers={"Content-Type": "application/json"}, key="wrong"), 401)


def test_sentences_that_callers_look_for(server):
    refuse = lambda messages: server.call("POST", "/generate", json={"messages": messages}).json()["detail"]
    assert "At least one message is required" in refuse([])
    assert "invalid role" in refuse([{"role": "tool", "content": "x"}]).lower()


@pytest.mark.parametrize("path", ["/generate", "/models/swap"])
def test_bodies_that_are_no_json(server, path):
    post = lambda body, kind: server.call("POST", path, data=body, headers={"Content-Type": kind})
    assert_problem(post("{", "application/json"), 400, "invalid_json")
    assert_problem(post("", "application/json"), 400, "invalid_json")
    assert_problem(post("{}", "text/plain"), 415)
    assert_problem(post("[]", "application/json"), 422, "wrong_type")
    assert_problem(post('{"messages":"' + "x" * (1 << 20) + '"}', "application/json"), 413)


def test_stream_has_tokens_and_one_end(server):
    with server.generate(max_tokens=12, temperature=0) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream"
        *tokens, done = events(answer)
    assert tokens and all(token.keys() == {"token", "gpu"} for token in tokens)
    assert all(isinstance(token["token"], str) and isinstance(token["gpu"], int) for token in tokens)
    assert done["done"] is True and done["finish_reason"] in {"stop", "length"}
    assert done["usage"].keys() == {"prompt_tokens", "cached_tokens", "completion_tokens"}
    assert 1 <= done["usage"]["completion_tokens"] <= 12
    assert done["timings_ms"].keys() >= {"queue", "prefill", "decode"}
    assert done["model_tag"] == server.call("GET", "/health").json()["current_model"]
    assert isinstance(done["seed"], int)


def test_same_seed_gives_the_same_text(server):
    def text():
        with server.generate("Tell me a story.", max_tokens=16, headers={"X-Seed": "7"}) as answer:
            return [event.get("token") for event in events(answer)]

    assert text() == text()


def test_system_message_before_a_user_message(server):
    messages = [{"role": "system", "content": "Be short."}, USER, {"role": "assistant", "content": "Hi"}, USER]
    with server.call("POST", "/generate", json={"messages": messages, "max_tokens": 4}, stream=True) as answer:
        assert answer.status_code == 200 and events(answer)[-1]["done"] is True


def test_nulls_take_the_defaults(server):
    with server.generate(temperature=None, top_k=None, max_tokens=None) as answer:
        assert answer.status_code == 200
        assert events(answer)[-1]["usage"]["completion_tokens"] <= 16


def test_request_id_is_echoed(server):
    with server.generate(max_tokens=1, headers={"X-Request-Id": "r-1", "X-Trace-Id": "t-1"}) as answer:
        assert answer.headers["X-Request-Id"] == "r-1" and answer.headers["X-Trace-Id"] == "t-1"


def test_swap_to_the_live_model_is_done_at_once(server):
    tag = server.call("GET", "/health").json()["current_model"]
    answer = server.call("POST", "/models/swap", json={"model_tag": tag})
    assert (answer.status_code, answer.json()) == (202, {"status": "ok", "current_model": tag})


@pytest.mark.parametrize("tag", ["nothing", "d9999"])
def test_swap_to_an_unknown_model(server, tag):
    assert_problem(server.call("POST", "/models/swap", json={"model_tag": tag}), 404, "model_not_found")
    assert server.call("GET", "/health").json()["ready"] is True


@pytest.mark.parametrize("tag", ["../models", "/etc", "a/../b", "..", ".", "", "https://127.0.0.1/x", "a" * 101, "a\u0000"])
def test_swap_takes_no_path_and_no_address(server, tag):
    answer = server.call("POST", "/models/swap", json={"model_tag": tag})
    assert answer.status_code in {400, 404}
    assert_problem(answer, answer.status_code)


def test_metrics_of_the_existing_board(server):
    answer = server.call("GET", "/metrics", key=None)
    assert answer.status_code == 200
    series = {line.split("{")[0].split(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")}
    assert series >= {
        "inference_duration_seconds_bucket", "tokens_generated_total", "workers_total", "workers_busy",
        "workers_available", "active_generations", "http_requests_total", "http_request_duration_seconds_bucket",
    }  # fmt: skip


def assert_problem(answer, status, code=None, detail=None):
    """The answer is RFC 9457's body with exactly our members, and gives nothing of the inside away."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem = answer.json()
    needed = set(documented.PROBLEM["required"])
    assert needed <= problem.keys() <= needed | {"param"}
    assert problem["status"] == status and problem["detail"]
    assert code is None or problem["code"] == code
    assert detail is None or problem["detail"] == detail
    assert "::" not in answer.text and "/src/" not in answer.text
    return problem


def events(answer):
    """The stream's events, from nothing but `data:` lines, comments and the blank lines between."""
    answer.encoding = "utf-8"
    *blocks, rest = answer.text.replace("\r\n", "\n").split("\n\n")
    assert rest == "", "the stream ends within an event"
    lines = [line for block in blocks for line in block.split("\n") if not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    found = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event.get("done") for event in found].count(True) == 1 and found[-1].get("done") is True
    return found
