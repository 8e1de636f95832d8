"""The contract with what the service promises beyond it: its errors, and the bounds of its numbers.

`inference-api.yaml` names only what succeeds and leaves every number open, so a check of statuses or of
valid requests would have nothing to hold the server to. `documented()` closes both, from the contract's own
text, and leaves everything that the contract does say as it is.
"""

import pathlib

import yaml

CONTRACT = pathlib.Path(__file__).with_name("inference-api.yaml")

# A Host header that is none, and one that is not this server's.
HOST = [400, 403]
UNAUTHORIZED = [*HOST, 401]
BODY = [*UNAUTHORIZED, 413, 415, 422, 503]
# What each operation may answer besides its success. 503 stands for a full queue, a drain, or no model; 403 for a key
# that may not swap too.
ERRORS = {
    ("get", "/health"): HOST,
    ("post", "/generate"): BODY,
    ("get", "/models"): UNAUTHORIZED,
    ("post", "/models/swap"): [*BODY, 404, 409, 507],
    ("get", "/stats"): UNAUTHORIZED,
}

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "minLength": 1},
        "code": {"type": "string", "pattern": "^[a-z][a-z_]*$"},
        "param": {"type": "string", "pattern": "^(/.*)?$"},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string", "minLength": 1},
    },
}

NUMBERS = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
DONE = {
    "type": "object",
    "required": ["done", "finish_reason", "model_tag", "weights", "seed", "usage", "timings_ms"],
    "properties": {
        "done": {"const": True},
        "finish_reason": {"enum": ["stop", "length"]},
        "model_tag": {"type": "string"},
        "weights": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "seed": {"type": "integer", "minimum": 0},
        "usage": NUMBERS,
        "timings_ms": NUMBERS,
        "dropped_messages": {"type": "integer", "minimum": 1},
    },
    "additionalProperties": False,
}
TOKEN = {
    "type": "object",
    "required": ["token", "gpu"],
    "properties": {"token": {"type": "string"}, "gpu": {"type": "integer", "minimum": 0}},
    "additionalProperties": False,
}
# The third kind of event, an error, is not among them: nothing that these tests do may break a stream.
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"oneOf": [TOKEN, DONE]},
        }
    },
}

TURN = {"$ref": "#/components/schemas/ChatMessage"}


def turn(role, least):
    """A message of a role with at least so many characters."""
    return {"allOf": [TURN, {"properties": {"role": {"enum": [role]}, "content": {"minLength": least}}}]}


SYSTEM, USER, ASSISTANT = turn("system", 1), turn("user", 1), turn("assistant", 0)
SPOKEN = {"anyOf": [USER, ASSISTANT]}


def contract():
    """The contract as it is written, but for one key.

    It says that the body of a stream is a string, which Schemathesis holds against the list of events that it
    makes of the body. `itemSchema`, which OpenAPI 3.2 has for events, takes its place and asks for more.
    """
    document = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    stream = document["paths"]["/generate"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    del stream["schema"]
    stream["itemSchema"] = EVENT
    return document


def operations(document):
    """Every (method, path) of an OpenAPI document, with its operation."""
    methods = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
    for path, item in document["paths"].items():
        for method in methods & item.keys():
            yield (method, path), item[method]


def documented():
    """The contract, with errors and bounds."""
    document = contract()
    schemas = document["components"]["schemas"]
    schemas["Problem"] = PROBLEM
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for key, operation in operations(document):
        for status in ERRORS[key]:
            operation["responses"][str(status)] = {"description": "Refused, with the reason.", "content": problem}
    bound_generate(schemas)
    swap = document["paths"]["/models/swap"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    swap["properties"]["model_tag"]["pattern"] = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
    return document


def bound_generate(schemas):
    """The ranges of /generate. What counts all messages together no schema can say."""
    schemas["ChatMessage"]["properties"]["content"] |= {"maxLength": 8000}
    properties = schemas["GenerateRequest"]["properties"]
    properties["messages"] = {
        "anyOf": [
            {"type": "array", "items": SPOKEN, "minItems": 1, "maxItems": 500},
            {"type": "array", "prefixItems": [SYSTEM, USER], "items": SPOKEN, "minItems": 2, "maxItems": 500},
        ]
    }
    properties["temperature"] |= {"minimum": 0, "maximum": 2}
    properties["top_k"] |= {"minimum": 0, "maximum": 200}
    properties["max_tokens"] |= {"minimum": 1, "maximum": 4096}
