"""What the Python clients share: where the servers are, a line for each thing that is checked, and plain HTTP.

The first thing that is not so ends the process with 1. A process that hangs says where, and ends too.
"""

import faulthandler
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["SAMOSA_URL"]
# Computes slowly, with one place to run in and one to wait in.
SLOW_URL = os.environ["SAMOSA_SLOW_URL"]
KEY = os.environ["SAMOSA_KEY"]
MODEL = "samosa-mini"
TIMEOUT = 30
HANG_SECONDS = 100

faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)


def check(what, fact, *seen):
    """A line if it is so; else what was seen, and the end."""
    need(what, fact, *seen)
    print(f"ok  {what}", flush=True)


def need(what, fact, *seen):
    """The end if it is not so; else nothing, for what others rest on."""
    if not fact:
        print(f"FAILED: {what}", *(f"        {each!r}" for each in seen), sep="\n", flush=True)
        # Tasks and threads that still run are not waited for.
        os._exit(1)


def equal(what, *texts):
    """A line if all are the same."""
    check(what, len(texts) > 1 and all(text == texts[0] for text in texts), *texts)


def refused(what, kind, ask, **members):
    """The error of `kind` that `ask` ends with, whose members are these."""
    try:
        answer = ask()
    except kind as error:
        found = {name: getattr(error, name) for name in members}
        check(f"{what}: {kind.__name__} {members}", found == members, found, error)
        return error
    except Exception as error:
        need(f"{what}: {kind.__name__}", False, error)
    need(f"{what}: {kind.__name__}", False, answer)


def until(what, is_so):
    """Looks again and again until it is so."""
    end = time.monotonic() + TIMEOUT
    while not is_so():
        need(f"{what} within {TIMEOUT} s", time.monotonic() < end)
        time.sleep(0.01)
    print(f"ok  {what}", flush=True)


def http(path, body=None, headers=(), url=URL):
    """The body of an answer of 200, asked for without any client."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **dict(headers)}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=TIMEOUT) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        need(f"{path} answers 200", False, error.code, error.read())


def stats(url=URL):
    return json.loads(http("/stats", url=url))


def is_idle(url=URL):
    """Whether nobody has a place, running or waiting."""
    now = stats(url)
    return now["running"] == 0 and now["queue"]["requests"] == 0


def generate(messages, seed, **fields):
    """The text of POST /generate, the server's own way of asking."""
    body = http("/generate", {"messages": messages, **fields}, {"X-Seed": str(seed)})
    lines = [line.removeprefix("data:") for line in body.splitlines() if line.startswith("data:")]
    events = [json.loads(line) for line in lines]
    need("POST /generate ends with a done event", events[-1].get("done") is True, events[-1])
    return "".join(event.get("token", "") for event in events)


def tokens(**fields):
    """The ids of a text or of a conversation, by POST /tokenize."""
    return json.loads(http("/tokenize", {"model": MODEL, **fields}))["tokens"]


def conversation(ask):
    """Three turns: each says what POST /generate says, and something else than it would without those before.

    `ask` takes a sentence and returns the answer to it, in one and the same conversation, at a temperature of 0.
    """
    said = []
    for sentence in ["What is samosa chaat?", "Why?", "Tell me more."]:
        turn = {"role": "user", "content": sentence}
        answer = ask(sentence)
        wanted = generate([*said, turn], 0, temperature=0)
        equal(f"turn {len(said) // 2 + 1} says what POST /generate says: {answer[:40]!r}…", answer, wanted)
        if said:
            alone = generate([turn], 0, temperature=0)
            check("and heeds what was said before", answer != alone, answer)
        said += [turn, {"role": "assistant", "content": answer}]


def done():
    print(f"all as it should be: {os.path.basename(sys.argv[0])}", flush=True)
