"""Random schemas and grammars, sensible, odd and hostile: each is refused by name or its answer fits, and the service
stays as it is. `--forms N` asks for N schemas and half as many grammars; the default is short enough for every run."""

import concurrent.futures
import json
import random
import time

import jsonschema_rs
import pytest

AT_ONCE = 8
LINEAR = jsonschema_rs.RegexOptions(size_limit=100_000_000)
# A read ends by its deadline (2 s), after those that are read before it.
SLOWEST_REFUSAL = 30
NAMES = ["name", "price", "tags", "größe", "a b", "id", 'quo"te', "back\\slash", "x-y", "0"]
PATTERNS = [
    "^[^\"]*$", "^[^\"\\\\]{1,4}$", "[^a-z]{2}", "^[\\x00-\\x1f]{2}$", "^\\S+$", "^\\D{2}$", "^\\W\\w$", ".{2,4}", "^.$",
    "^(ja|nein)$", "a+b", "^[\\s\\d]{3}$", "^\\d{4}-\\d{2}$", "^[A-Z]{2}-[0-9]{3}$", "^\\P{L}{2}$", "^[^\\n]{3}$",
    "^[\\]\\[^-]{2}$", "^a|b$", "é{2}", "^(?:x|yz){0,3}$", "^$", "/", "^\\/[a-z]$", "^[^\\\\]$", "\\.", "^[!-~]{3}$",
]  # fmt: skip
FORMATS = ["date-time", "time", "date", "duration", "hostname", "ipv4", "ipv6", "uuid", "email", "uri"]
HOSTILE_NUMBERS = [-(2**63), 2**63 - 1, 2**64 - 1, -(2**63) + 1, -1e19, 1e300, 1e-300, 9007199254740993, 1.2e18, 0.1 + 0.2]


class Maker:
    """Makes schemas of every keyword that is supported, some that are not, and values at the edges."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def of(self, *choices):
        return self.random.choice(choices)

    def schema(self):
        schema = self.any(self.of(0, 1, 2, 3))
        if self.random.random() < 0.15:
            part = self.any(1)
            schema = self.of(
                {"$defs": {"part": part}, "type": "array", "items": {"$ref": "#/$defs/part"}, "maxItems": 2},
                {"$defs": {"part": part}, "anyOf": [{"$ref": "#/$defs/part"}, schema]},
                {"$defs": {"list": {"anyOf": [{"type": "null"}, {
                    "type": "object", "properties": {"next": {"$ref": "#/$defs/list"}},
                    "required": ["next"], "additionalProperties": False}]}}, "$ref": "#/$defs/list"},
            )  # fmt: skip
        if self.random.random() < 0.04 and isinstance(schema, dict):
            schema |= self.of({"not": {}}, {"uniqueItems": True}, {"if": {}}, {"minLen": 1}, {"unevaluatedItems": False})
        return schema

    def any(self, depth):
        kinds = [self.string, self.string, self.integer, self.number, self.choice, self.constant, self.simple]
        deep = [self.object, self.array, self.either, self.all, self.one]
        kind = self.random.choice(kinds + deep * 2 if depth > 0 else kinds)
        return kind(depth - 1) if kind in deep else kind()

    def names(self, least=0):
        return self.random.sample(NAMES, self.random.randint(least, 4))

    def object(self, depth):
        names = self.names()
        schema = {
            "type": "object",
            "properties": {name: self.any(depth) for name in names},
            "required": [name for name in names if self.random.random() < 0.7],
            "additionalProperties": self.of(False, False, self.any(0)),
        }
        if self.random.random() < 0.2:
            schema["patternProperties"] = {self.of("^[ab]$", "^x", "^[^\"]{2}$"): self.any(0)}
        if self.random.random() < 0.2:
            schema["minProperties"] = self.random.randint(0, 3)
        if self.random.random() < 0.2:
            schema["maxProperties"] = self.random.randint(0, 4)
        return schema

    def array(self, depth):
        least = self.random.randint(0, 2)
        schema = {"type": "array", "items": self.any(depth), "minItems": least, "maxItems": least + self.of(0, 1, 2)}
        if self.random.random() < 0.2:
            schema["prefixItems"] = [self.any(0) for _ in range(self.of(1, 2))]
        return schema

    def either(self, depth):
        return {"anyOf": [self.any(depth) for _ in range(self.of(2, 3))]}

    def one(self, depth):
        return {"oneOf": [self.any(0), self.object(depth)]}

    def all(self, depth):
        return {"allOf": [self.of(self.object, self.array)(depth), self.of({}, {"minProperties": 1}, self.object(depth))]}

    def string(self):
        least = self.random.randint(0, 3)
        length = {"minLength": least, "maxLength": least + self.random.randint(0, 9)}
        return {"type": "string"} | self.of(
            length, {"pattern": self.of(*PATTERNS)}, {"pattern": self.of(*PATTERNS), **length},
            {"format": self.of(*FORMATS), "maxLength": 40}, {"format": self.of("date", "time"), "pattern": "[05]"},
        )  # fmt: skip

    def bound(self):
        return self.of(
            self.random.randint(-1000, 1000), self.random.randint(-(10**12), 10**12), round(self.random.uniform(-9, 9), 3),
            self.random.randint(-(2**53), 2**53), 0, self.random.uniform(-1, 1), *[self.of(*HOSTILE_NUMBERS)] * 2,
        )  # fmt: skip

    def bounds(self):
        low, high = sorted([self.bound(), self.bound()])
        return {self.of("minimum", "exclusiveMinimum"): low, self.of("maximum", "exclusiveMaximum"): high}

    def integer(self):
        multiple = self.of({}, {}, {}, {"multipleOf": self.of(1, 2, 7, 100, 12345, 10000019, 2**40 + 1)})
        return {"type": "integer"} | self.bounds() | multiple

    def number(self):
        multiple = self.of({}, {}, {}, {"multipleOf": self.of(0.5, 0.1, 0.01, 3, 1e-6, 0.3333, 1e9 + 7)})
        return {"type": "number"} | self.bounds() | multiple

    def choice(self):
        values = ["hot", "mild", 1, 2.5, None, True, "süß", ["x"], {"k": 0}, 'a"b\\c', "a\nb\t\x1f", "", -0.0, self.bound()]
        return {"enum": self.random.sample(values, 3)}

    def constant(self):
        return {"const": self.of("yes", 0, False, None, {"a": [1, "b"]}, [], {}, self.bound(), "\x7f\u2028é🥟")}

    def simple(self):
        return self.of(True, {}, {"type": "boolean"}, {"type": ["boolean", "null"]}, {"title": "anything"})


def expression(maker, depth=3):
    """A random regular expression."""
    parts = [
        maker.of("a", "b", "[a-c]", "[0-9]", ".", "[^x]", "é", "\\pL") if depth == 0 or maker.random.random() < 0.4
        else f"({expression(maker, depth - 1)})" + maker.of("", "?", "*", "+", "{2}", "{0,40}", "{3,200}")
        for _ in range(maker.of(1, 2, 3))
    ]  # fmt: skip
    return maker.of("", "|").join(parts)


def lark(maker):
    """A random grammar: rules of rules, some of them ambiguous or endless."""
    n = maker.of(1, 2, 4, 8)

    def rule():
        return " ".join(
            maker.of(f"r{maker.random.randrange(n)}", '"x"', f"/{expression(maker, 1)}/", f"r{maker.random.randrange(n)}*")
            for _ in range(maker.of(0, 1, 2, 3))
        )

    rules = [f"r{i}: " + " | ".join(rule() for _ in range(maker.of(1, 2, 3))) for i in range(n)]
    return "\n".join(["start: r0", *rules])


def ask(server, seed, **form):
    body = {
        "model": "samosa-mini", "messages": [{"role": "user", "content": "Describe a dish."}], "max_tokens": 120,
        "seed": seed, "temperature": [0, 1, 2][seed % 3], **form,
    }  # fmt: skip
    begun = time.monotonic()
    response = server.call("POST", "/v1/chat/completions", json=body, timeout=120)
    took = time.monotonic() - begun
    if response.status_code == 200:
        [choice] = response.json()["choices"]
        return "answered", choice["message"]["content"], choice["finish_reason"]
    error = response.json()["error"]
    assert response.status_code == 400, f"seed {seed}: {response.status_code} {error}: {form}"
    assert error["code"] in ("invalid_value", "too_complex"), f"seed {seed}: {error}"
    assert took < SLOWEST_REFUSAL, f"seed {seed}: refused after {took:.1f} s: {form}"
    return "refused", error["message"], error["code"]


def all_of(server, one, n):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(one, range(n)))
    counts = {what: outcomes.count(what) for what in sorted(set(outcomes))}
    print(f"\n{n} forms: {counts}")
    assert server.call("GET", "/readyz", key=None).status_code == 200
    return counts


@pytest.fixture(scope="session")
def forms(request):
    return int(request.config.getoption("--forms"))


def test_every_schema_is_refused_by_name_or_its_answer_fits(server, forms):
    def one(seed):
        schema = Maker(seed).schema()
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if not isinstance(schema, dict):
            return "no object"
        what, text, reason = ask(server, seed, response_format=form)
        if what == "refused" or reason != "stop":
            return what if what == "refused" else "cut off"
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        errors = [error.message for error in validator.iter_errors(json.loads(text))]
        assert not errors, f"seed {seed}: {errors}: {json.dumps(schema)}: {text}"
        return "fits"

    counts = all_of(server, one, forms)
    assert counts["fits"] > forms / 4, counts


def test_every_grammar_is_refused_or_followed(server, forms):
    def one(seed):
        maker = Maker(-seed)
        if seed % 2:
            return ask(server, seed, grammar=lark(maker))[0]
        pattern = expression(maker)
        what, text, reason = ask(server, seed, grammar={"syntax": "regex", "definition": pattern})
        if what == "answered" and reason == "stop":
            # By an engine that takes linear time: Python's would not come to an end with some of these.
            try:
                whole = jsonschema_rs.Draft202012Validator({"pattern": f"^(?:{pattern})$"}, pattern_options=LINEAR)
            except jsonschema_rs.ValidationError:
                return "too large to check"
            assert whole.is_valid(text), f"seed {seed}: {pattern}: {text!r}"
        return what

    counts = all_of(server, one, forms // 2)
    assert counts["answered"] > forms / 20, counts
