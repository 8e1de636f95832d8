"""Answers in a form that was asked for, from the built-in model: JSON of two hundred random schemas, held to them by a
validator that has nothing to do with the server, and grammars."""

import concurrent.futures
import datetime
import ipaddress
import json
import random
import re
import uuid

import jsonschema_rs
import pytest

SCHEMAS = 200
AT_ONCE = 8
NAMES = ["name", "price", "tags", "spicy", "origin", "steps", "größe", "a b", "note", "id"]
QUESTIONS = ["Describe a dish.", "What is 12 * 7?", "Tell me about samosa chaat.", "Hello!", "Which animals fly?"]


class Maker:
    """Makes schemas whose answers are bounded, so that each comes to its end."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def schema(self):
        schema = self.object(2) if self.random.random() < 0.8 else self.any(2)
        if self.random.random() < 0.2:
            schema = {"$defs": {"part": self.any(1)}, "type": "array", "items": {"$ref": "#/$defs/part"}, "maxItems": 2}
        return schema

    def any(self, depth):
        kinds = [self.string, self.string, self.integer, self.number, self.choice, self.constant, self.simple]
        if depth > 0:
            kinds += [self.object, self.array, self.either] * 2
        kind = self.random.choice(kinds)
        return kind(depth - 1) if kind.__name__ in ("object", "array", "either") else kind()

    def object(self, depth):
        names = self.random.sample(NAMES, self.random.randint(0, 4))
        schema = {
            "type": "object",
            "properties": {name: self.any(depth) for name in names},
            "required": [name for name in names if self.random.random() < 0.7],
        }
        return schema | {"additionalProperties": False}

    def array(self, depth):
        least = self.random.randint(0, 2)
        return {"type": "array", "items": self.any(depth), "minItems": least, "maxItems": least + self.random.randint(0, 2)}

    def either(self, depth):
        return {"anyOf": [self.any(depth) for _ in range(self.random.randint(2, 3))]}

    def string(self):
        least = self.random.randint(0, 3)
        return self.random.choice([
            {"type": "string", "minLength": least, "maxLength": least + self.random.randint(0, 9)},
            {"type": "string", "pattern": self.random.choice(["^[A-Z]{2}-[0-9]{3}$", "^(ja|nein)$", "^[a-zé]{1,6}$"])},
            {"type": "string", "format": self.random.choice(["date", "ipv4", "uuid"])},
        ])

    def integer(self):
        least = self.random.randint(-1000, 1000)
        return {"type": "integer", "minimum": least, "maximum": least + self.random.randint(0, 5000)}

    def number(self):
        return {"type": "number", "minimum": 0, "maximum": self.random.randint(1, 50), "multipleOf": 0.5}

    def choice(self):
        return {"enum": self.random.sample(["hot", "mild", 1, 2.5, None, True, "süß", ["x"], {"k": 0}], 3)}

    def constant(self):
        return {"const": self.random.choice(["yes", 0, False, None, {"a": [1, "b"]}])}

    def simple(self):
        return {"type": self.random.choice(["boolean", "null", ["boolean", "null"]])}


def ask(server, content="Describe a dish.", path="/v1/chat/completions", **fields):
    body = {"model": "samosa-mini", "max_tokens": 700, **fields}
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": content}]
    return server.call("POST", path, json=body, timeout=120)


def answer(server, *arguments, **fields):
    response = ask(server, *arguments, **fields)
    assert response.status_code == 200, response.text
    [choice] = response.json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def json_of(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_answers_fit_two_hundred_random_schemas(server):
    def one(seed):
        schema = Maker(seed).schema()
        temperature = [0, 1, 2][seed % 3]
        text, reason = answer(
            server, QUESTIONS[seed % len(QUESTIONS)], response_format=json_of(schema), temperature=temperature, seed=seed
        )
        assert reason == "stop", f"seed {seed} came to no end: {json.dumps(schema)}: {text}"
        value = json.loads(text)
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        errors = [error.message for error in validator.iter_errors(value)]
        assert not errors, f"seed {seed}: {errors}: {json.dumps(schema)}: {text}"
        return text

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        texts = list(pool.map(one, range(SCHEMAS)))
    assert len(set(texts)) > SCHEMAS // 2, "the answers are hardly more than one"


def test_formats_are_what_their_names_say(server):
    read = {"date": datetime.date.fromisoformat, "ipv4": ipaddress.IPv4Address, "uuid": uuid.UUID}
    for name, parse in read.items():
        text, _ = answer(server, response_format=json_of({"type": "string", "format": name}), seed=1)
        parse(json.loads(text))


def test_a_json_object_is_one(server):
    # The built-in model never learnt JSON, and seldom comes to the end of a string. Of tokens that are raised by 100 one is
    # sampled wherever one is allowed, whatever the logits are: such an answer must end. Others may, and are JSON if they do.
    closing = set()
    for text in ('"', '}', '"}', '":'):
        closing |= set(server.call("POST", "/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"])
    for seed in range(12):
        raised = 100 if seed % 2 else 7
        fields = {"response_format": {"type": "json_object"}, "seed": seed, "max_tokens": 200}
        text, reason = answer(server, logit_bias={str(token): raised for token in closing}, **fields)
        assert text.startswith("{")
        assert raised < 100 or reason == "stop", f"seed {seed} came to no end: {text}"
        if reason == "stop":
            assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("schema, words", [
    ({"const": -9223372036854775808}, "the number -9223372036854775808 cannot be followed exactly"),
    ({"enum": [-9223372036854775807]}, "the number -9223372036854775807 cannot be followed exactly"),
    ({"type": "integer", "enum": [-1e19]}, "at /enum, the number"),
    ({"const": 9007199254740993}, "the number 9007199254740993 cannot be followed exactly"),
    ({"type": "integer", "minimum": 1200000000000000000, "maximum": 1200000000000000009}, "at /minimum, the number"),
    ({"patternProperties": {"^[ab]$": {"const": 1}}, "additionalProperties": False, "minProperties": 2}, '"minProperties" is 2'),
    ({"type": "string", "minLen": 3}, 'the keyword "minLen" is not supported'),
    ({"type": "integer", "multipleOf": 10000019}, "reading it takes more than"),
])  # fmt: skip
def test_what_would_not_be_kept_or_not_be_read_is_refused(server, schema, words):
    for _ in range(2):
        response = ask(server, response_format=json_of(schema))
        error = response.json()["error"]
        assert response.status_code == 400 and words in error["message"], error
    assert answer(server, response_format=json_of({"const": "on"}))[0] == '"on"'


@pytest.mark.parametrize("pattern", ["^[\\x00-\\x1f]{2}$", "^[^\"]{3}$", "^[^\\\\]{3}$", "^\\W{2}$"])
def test_classes_of_characters_are_kept(server, pattern):
    for seed in range(4):
        schema = {"type": "string", "pattern": pattern}
        text, reason = answer(server, response_format=json_of(schema), seed=seed, temperature=2)
        assert reason == "stop" and jsonschema_rs.is_valid(schema, json.loads(text)), text


def test_streamed_and_not_the_same(server):
    schema = Maker(4).object(1)
    fields = {"response_format": json_of(schema), "seed": 4, "temperature": 1}
    whole, _ = answer(server, **fields)
    response = ask(server, stream=True, **fields)
    chunks = [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == whole


@pytest.mark.parametrize("path, fields", [
    ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 20}),
    ("/v1/completions", {"logprobs": 20, "prompt": "x"}),
])
def test_clients_that_split_lines_as_unicode_does_read_every_event(server, path, fields):
    for character in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        text = f"a{character}{character}b{character}"
        grammar = {"syntax": "regex", "definition": text}
        response = ask(server, path=path, stream=True, grammar=grammar, **fields)
        # As httpx's aiter_lines does.
        lines = [line for line in response.content.decode().splitlines() if line]
        assert all(line.startswith("data: ") for line in lines), (character, lines)
        choices = [choice for line in lines[:-1] for choice in json.loads(line[6:])["choices"]]
        parts = [choice["delta"].get("content") if "delta" in choice else choice["text"] for choice in choices]
        assert "".join(part or "" for part in parts) == text, (character, lines)


@pytest.mark.parametrize("grammar, pattern", [
    ('start: "Yes" | "No, " /[a-z]{3,9}/', r"Yes|No, [a-z]{3,9}"),
    ({"syntax": "lark", "definition": 'start: item ("," item)*\nitem: /[0-9]/'}, r"[0-9](,[0-9])*"),
    ({"syntax": "regex", "definition": "[A-F]{4}-[0-9]{2}"}, r"[A-F]{4}-[0-9]{2}"),
])
def test_grammars_are_kept(server, grammar, pattern):
    for seed in range(5):
        text, reason = answer(server, grammar=grammar, seed=seed, temperature=1.5, max_tokens=64)
        if reason == "stop":
            assert re.fullmatch(pattern, text), text
    response = ask(server, path="/v1/completions", prompt="The answer is", grammar=grammar, seed=3, max_tokens=64)
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "length" or re.fullmatch(pattern, choice["text"]), choice


@pytest.mark.parametrize("fields, param, word", [
    ({"response_format": json_of({"type": "strin"})}, "response_format", "Invalid type"),
    ({"response_format": json_of({"not": {}})}, "response_format", "not"),
    ({"grammar": "start: nowhere"}, "grammar", "nowhere"),
    ({"grammar": {"syntax": "regex", "definition": "("}}, "grammar", "unclosed group"),
    ({"grammar": 'start: "a"', "response_format": {"type": "json_object"}}, "grammar", "response_format"),
])
def test_what_cannot_be_followed_is_refused_by_name(server, fields, param, word):
    response = ask(server, **fields)
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"].startswith(param), error
    assert error["type"] == "invalid_request_error" and word in error["message"], error
