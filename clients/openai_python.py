"""The official `openai` package against the server: python clients/openai_python.py [PART…], all parts by default."""

import asyncio
import json
import math
import sys
import threading
from typing import Literal

import openai
import pydantic
from checks import (
    KEY, MODEL, SLOW_URL, TIMEOUT, URL, check, done, equal, generate, is_idle, need, refused, stats, tokens, until,
)  # fmt: skip
from openai import AsyncOpenAI, OpenAI

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=TIMEOUT, max_retries=0)
slow = OpenAI(base_url=f"{SLOW_URL}/v1", api_key=KEY, timeout=TIMEOUT, max_retries=0)

STORY = [{"role": "user", "content": "Tell me a long story."}]
CHAAT = [{"role": "user", "content": "What is samosa chaat?"}]


def chat(messages=CHAAT, ask=client, **fields):
    return ask.chat.completions.create(model=MODEL, messages=messages, **fields)


def text(messages=CHAAT, **fields):
    return chat(messages, **fields).choices[0].message.content


def streamed(messages=CHAAT, **fields):
    """The text of choice 0 in a stream."""
    return joined(chat(messages, stream=True, **fields))


def joined(chunks, index=0):
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def forced(word=" the"):
    """A bias under which the model says nothing but this, on and on."""
    found = tokens(prompt=word, add_special_tokens=False)
    need(f"{word!r} is one token", len(found) == 1, found)
    return {str(found[0]): 100}


def models():
    names = [model.id for model in client.models.list()]
    check("the model is listed", MODEL in names, names)
    model = client.models.retrieve(MODEL)
    equal("the model is found by its name", (model.id, model.object), (MODEL, "model"))


def whole():
    answer = chat(temperature=0)
    choice = answer.choices[0]
    equal("it is a completion of one choice", (answer.object, len(answer.choices)), ("chat.completion", 1))
    equal("by the model that was asked", answer.model, MODEL)
    check("its id is one of chat", answer.id.startswith("chatcmpl-"), answer.id)
    check("it says when, and by which weights", answer.created > 1_700_000_000 and answer.system_fingerprint)
    equal("the assistant speaks and ends", (choice.message.role, choice.finish_reason), ("assistant", "stop"))
    check("what it says is of samosas", "samosa" in choice.message.content.lower(), choice.message.content)
    usage = answer.usage
    check("tokens are counted", usage.prompt_tokens > 0 < usage.completion_tokens, usage)
    equal("and add up", usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)
    cached = usage.prompt_tokens_details.cached_tokens
    check("cached tokens are of the prompt", 0 <= cached <= usage.prompt_tokens, usage)


def streams():
    chunks = list(chat(temperature=0, stream=True))
    first, last = chunks[0].choices[0], chunks[-1].choices[0]
    equal("the first chunk names the role", (first.delta.role, first.delta.content), ("assistant", ""))
    equal("chunks are of one answer", {(chunk.id, chunk.object) for chunk in chunks}, {(chunks[0].id, "chat.completion.chunk")})
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    equal("the last chunk, and only it, says why", reasons, [None] * (len(chunks) - 1) + ["stop"])
    check("and nothing more", not last.delta.content, last)
    equal("a stream says what a whole answer says", joined(chunks), text(temperature=0))
    check("no usage where none is asked for", all(chunk.usage is None for chunk in chunks))
    counted = list(chat(temperature=0, stream=True, stream_options={"include_usage": True}))
    equal("usage comes alone and last", ([len(chunk.choices) for chunk in counted][-2:]), [1, 0])
    check("once", all(chunk.usage is None for chunk in counted[:-1]))
    usage, plain = counted[-1].usage, chat(temperature=0).usage
    counts = lambda each: (each.prompt_tokens, each.completion_tokens, each.total_tokens)
    equal("and is that of the whole answer", counts(usage), counts(plain))
    with client.chat.completions.stream(model=MODEL, messages=CHAAT, temperature=0) as events:
        final = events.get_final_completion()
    equal("the client's own gathering of a stream says it too", final.choices[0].message.content, joined(chunks))


def asynchronous():
    async def talk():
        async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=TIMEOUT, max_retries=0) as ask:
            fields = {"model": MODEL, "messages": CHAAT, "temperature": 0}
            answer = await ask.chat.completions.create(**fields)
            chunks = [chunk async for chunk in await ask.chat.completions.create(**fields, stream=True)]
            return answer.choices[0].message.content, joined(chunks)

    equal("asked asynchronously it says the same, streamed or not", *asyncio.run(talk()), text(temperature=0))


def seeds():
    # Without a temperature the server's own holds, there as here.
    for seed in (7, 2**40 + 1):
        fields = {"seed": seed, "max_tokens": 40}
        again = [text(STORY, **fields), text(STORY, **fields), streamed(STORY, **fields)]
        equal(f"seed {seed} repeats, in a stream and by POST /generate", *again, generate(STORY, seed, max_tokens=40))
    hot = {text(STORY, seed=seed, temperature=1.2, max_tokens=40) for seed in range(6)}
    check("other seeds say other things", len(hot) >= 5, hot)
    equal("temperature 0 needs no seed", text(temperature=0), text(temperature=0), generate(CHAAT, 1, temperature=0))
    equal("a top_p of almost nothing is greedy too", text(top_p=1e-6, temperature=1.5, seed=3), text(temperature=0))
    body = {"top_k": 1}
    equal("so is a top_k of 1", text(extra_body=body, temperature=1.5, seed=3), text(temperature=0))


def choices():
    fields = {"seed": 11, "temperature": 1.2, "max_tokens": 40}
    answer = chat(STORY, n=3, **fields)
    equal("three choices", [choice.index for choice in answer.choices], [0, 1, 2])
    texts = [choice.message.content for choice in answer.choices]
    check("that differ", len(set(texts)) == 3, texts)
    equal("the first is that of one choice alone", texts[0], text(STORY, **fields))
    chunks = list(chat(STORY, n=3, stream=True, **fields))
    equal("streamed they are the same", [joined(chunks, index) for index in range(3)], texts)
    ends = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    equal("and each ends once", sorted(ends), [0, 1, 2])
    check("all are counted", answer.usage.completion_tokens > 40, answer.usage)


def stops():
    said = text(temperature=0)
    parts = [entry.token for entry in chat(temperature=0, logprobs=True).choices[0].logprobs.content]
    stop = across(said, parts)
    cut = said[: said.index(stop)]
    answer = chat(temperature=0, stop=stop).choices[0]
    equal(f"{stop!r}, which crosses tokens, ends the answer before it", answer.message.content, cut)
    equal("which counts as a stop", answer.finish_reason, "stop")
    equal("in a stream too", streamed(temperature=0, stop=[stop]), cut)
    words = [parts[3], parts[1]]
    first = min(said.index(word) for word in words)
    equal("of two the earlier one", text(temperature=0, stop=words), said[:first])
    equal("one that never comes changes nothing", text(temperature=0, stop="\n\nnever"), said)


def across(said, parts):
    """A text from the end of one token to the beginning of the next, which is nowhere before."""
    place = 0
    for one, next_one in zip(parts, parts[1:]):
        place += len(one)
        found = one[-2:] + next_one[:2]
        if place > 10 and len(one) > 1 and len(next_one) > 1 and said.index(found) == place - 2:
            return found
    need("the answer has a text that crosses two tokens", False, parts)


def likelihoods():
    answer = chat(temperature=0, logprobs=True, top_logprobs=5).choices[0]
    entries = answer.logprobs.content
    equal("the tokens are the answer", "".join(entry.token for entry in entries), answer.message.content)
    equal("so are their bytes", b"".join(bytes(entry.bytes) for entry in entries).decode(), answer.message.content)
    sums = [sum(math.exp(top.logprob) for top in entry.top_logprobs) for entry in entries]
    check("five candidates each, no more likely than certain", all(0 < each < 1.0001 for each in sums), sums)
    equal("five of them", {len(entry.top_logprobs) for entry in entries}, {5})
    ranks = [[top.logprob for top in entry.top_logprobs] for entry in entries]
    equal("the likeliest first", ranks, [sorted(rank, reverse=True) for rank in ranks])
    greedy = [(entry.token, entry.logprob) for entry in entries]
    equal("the greedy token is it", greedy, [(e.top_logprobs[0].token, e.top_logprobs[0].logprob) for e in entries])
    chunks = [chunk.choices[0] for chunk in chat(temperature=0, logprobs=True, top_logprobs=5, stream=True)]
    found = [entry for choice in chunks if choice.logprobs for entry in choice.logprobs.content]
    equal("a stream has the same", found, entries)
    none = chat(temperature=0, logprobs=True).choices[0].logprobs.content
    check("without candidates there are none", all(entry.top_logprobs == [] for entry in none), none[:2])
    check("unasked there are no logprobs", chat(temperature=0).choices[0].logprobs is None)


def biases():
    first = chat(temperature=0, logprobs=True).choices[0].logprobs.content[0].token
    ids = tokens(prompt=first, add_special_tokens=False)
    equal(f"{first!r} is one token", len(ids), 1)
    banned = chat(temperature=0, logprobs=True, logit_bias={str(ids[0]): -100}).choices[0].logprobs.content[0].token
    check(f"banned, another one comes: {banned!r}", banned != first, first)
    equal("a forced one comes again and again", text(logit_bias=forced(" the"), max_tokens=4), " the" * 4)


def lengths():
    answer = chat(STORY, max_tokens=5, temperature=0)
    found = (answer.choices[0].finish_reason, answer.usage.completion_tokens)
    equal("max_tokens cuts", found, ("length", 5))
    answer = chat(STORY, max_completion_tokens=5, temperature=0)
    equal("so does max_completion_tokens", (answer.choices[0].finish_reason, answer.usage.completion_tokens), found)
    reasons = [chunk.choices[0].finish_reason for chunk in chat(STORY, max_tokens=5, stream=True)]
    equal("and in a stream", reasons[-1], "length")


def penalties():
    # Pushed towards one word, the model repeats it; what a penalty takes away outweighs the push.
    (push,) = forced(" samosa")
    fields = {"temperature": 0, "max_tokens": 60, "logit_bias": {push: 16}}
    plain = text(STORY, **fields).count(" samosa")
    check(f"without penalties it is said {plain} times", plain > 20)
    for name in ("frequency_penalty", "presence_penalty"):
        found = text(STORY, **fields, **{name: 2}).count(" samosa")
        check(f"with a {name} of 2 {found} times", found < plain)
    found = text(STORY, **fields, extra_body={"repetition_penalty": 2}).count(" samosa")
    check(f"with a repetition_penalty of 2 {found} times", found < plain)


def messages():
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "samosa chaat?"}]
    equal("parts of a content are joined", text([{"role": "user", "content": parts}], temperature=0), text(temperature=0))
    for role in ("system", "developer"):
        led = [{"role": role, "content": "You are brief."}, *CHAAT]
        answer = chat(led, temperature=0, seed=1)
        check(f"a {role} message is read", answer.usage.prompt_tokens > chat(temperature=0).usage.prompt_tokens)
        wanted = [{"role": "system", "content": "You are brief."}, *CHAAT]
        equal("as by POST /generate", answer.choices[0].message.content, generate(wanted, 1, temperature=0))
    turns = [*CHAAT, {"role": "assistant", "content": "A snack."}, {"role": "user", "content": "What is 12 * 7?"}]
    equal("a longer talk too", text(turns, temperature=0), generate(turns, 1, temperature=0))


def completions():
    prompt = "Samosa chaat is"
    ask = lambda prompt, **fields: client.completions.create(
        model=MODEL, prompt=prompt, temperature=0, max_tokens=12, **fields
    )
    answer = ask(prompt)
    said = answer.choices[0].text
    equal("a completion", (answer.object, answer.choices[0].finish_reason in ("stop", "length")), ("text_completion", True))
    check(f"goes on: {prompt}{said}", len(said) > 3)
    equal("streamed the same", "".join(chunk.choices[0].text for chunk in ask(prompt, stream=True) if chunk.choices), said)
    other = "The capital of"
    both = [choice.text for choice in ask([prompt, other]).choices]
    equal("two prompts at once are as alone", both, [said, ask(other).choices[0].text])
    ids = tokens(prompt=prompt)
    equal("token ids are the text they stand for", ask(ids).choices[0].text, ask([ids]).choices[0].text, said)
    likely = ask(prompt, logprobs=2).choices[0].logprobs
    equal("logprobs in the old shape", "".join(likely.tokens), said)
    equal("one for each token", len(likely.token_logprobs), len(likely.tokens), len(likely.top_logprobs))
    default = client.completions.create(model=MODEL, prompt=prompt, logit_bias=forced())
    equal("16 tokens unless asked", default.usage.completion_tokens, 16)
    refused("echo", openai.BadRequestError, lambda: ask(prompt, echo=True), param="echo")


def errors():
    bad, bodies = openai.BadRequestError, lambda **body: lambda: chat(extra_body=body)
    wrong = client.with_options(api_key="wrong")
    error = refused("a wrong key", openai.AuthenticationError, wrong.models.list, status_code=401, code="invalid_api_key")
    check("an error has the request's id", bool(error.request_id), error.response.headers)
    other = lambda: client.chat.completions.create(model="gpt-4o", messages=CHAAT)
    error = refused("a model that is not", openai.NotFoundError, other, code="model_not_found")
    check("names the one that is", MODEL in error.message, error.message)
    refused("and by retrieve", openai.NotFoundError, lambda: client.models.retrieve("gpt-4o"), code="model_not_found")
    long = [{"role": "user", "content": "1 2 3 4 5 6 7 8 9 " * 300}]
    error = refused("too long a talk", bad, lambda: chat(long), code="context_length_exceeded", param="messages")
    check("says the limit", "maximum context length is 512 tokens" in error.message, error.message)
    refused("an unknown field", bad, bodies(foo=1), code="unknown_parameter", param="foo")
    refused("no model", bad, lambda: http_like({"messages": CHAAT}), code="missing_required_parameter", param="model")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    refused("tools", bad, lambda: chat(tools=[tool]), param="tools")
    check("no tools are fine", bool(text(tools=[], temperature=0)))
    check("and so are those that may not be called", bool(text(tools=[tool], tool_choice="none", temperature=0)))
    bare = OpenAI(base_url=URL, api_key=KEY, timeout=TIMEOUT, max_retries=0)
    lost = lambda: bare.chat.completions.create(model=MODEL, messages=CHAAT)
    error = refused("a base URL without /v1", openai.NotFoundError, lost, code="not_found")
    check("the 404 names the right base_url", "base_url must end in /v1" in error.message, error.message)
    refused("a temperature of 3", bad, lambda: chat(temperature=3), param="temperature")
    refused("a temperature of words", bad, bodies(temperature="hot"), code="invalid_type", param="temperature")
    refused("no messages", bad, lambda: chat([]), param="messages")
    refused("an odd role", bad, lambda: chat([{"role": "tool", "content": "x"}]), param="messages[0].role")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    error = refused("an image", bad, lambda: chat(image))
    check("is refused by its place", (error.param or "").startswith("messages[0].content"), error.param)
    refused("a route that is not", openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="x"))


def http_like(body):
    """A body that the client itself would not send."""
    return client.post("/chat/completions", cast_to=object, body=body)


def hold(**fields):
    """A stream of the slow server that has begun and goes on for long."""
    stream = chat(STORY, slow, stream=True, max_tokens=400, logit_bias=forced(), **fields)
    next(iter(stream))
    return stream


def cancel():
    before = stats(SLOW_URL)["requests"]["client_gone"]
    stream = hold()
    parts = [next(stream).choices[0].delta.content for _ in range(3)]
    check("a stream is on its way", all(parts), parts)
    equal("and has a place", stats(SLOW_URL)["running"], 1)
    stream.close()
    until("a stream that is closed frees its place", lambda: is_idle(SLOW_URL))
    equal("and was not finished", stats(SLOW_URL)["requests"]["client_gone"], before + 1)
    waiting = threading.Thread(target=lambda: refused("a client that gives up", openai.APITimeoutError, give_up))
    waiting.start()
    until("one that is not streamed runs", lambda: stats(SLOW_URL)["running"] == 1)
    waiting.join()
    until("and frees its place when its client gives up", lambda: is_idle(SLOW_URL))


def give_up():
    return chat(STORY, slow.with_options(timeout=1), max_tokens=400, logit_bias=forced())


def crowd():
    fields = {"model": MODEL, "messages": STORY, "temperature": 1.0, "max_tokens": 48}

    async def talk():
        async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=TIMEOUT, max_retries=0) as ask:
            asked = (ask.chat.completions.create(seed=seed, **fields) for seed in range(16))
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    together = asyncio.run(talk())
    alone = [client.chat.completions.create(seed=seed, **fields).choices[0].message.content for seed in range(16)]
    equal("16 at once say what each says alone", together, alone)


def full():
    running, waiting = hold(), threading.Event()
    statuses = []

    def seen(response):
        """The first refusal makes room: from then on the client has to come back by itself."""
        statuses.append(response.status_code)
        if response.status_code >= 400:
            running.close()
            waiting.set()

    hooks = openai.DefaultHttpxClient(event_hooks={"response": [seen]})
    patient = OpenAI(base_url=f"{SLOW_URL}/v1", api_key=KEY, timeout=TIMEOUT, max_retries=4, http_client=hooks)
    held = threading.Thread(target=hold_in_queue, args=(waiting,))
    held.start()
    until("the queue is full", lambda: stats(SLOW_URL)["queue"]["requests"] == 1)
    answer = chat(CHAAT, patient, temperature=0, max_tokens=4)
    held.join()
    check(f"a client that was refused comes back by itself: {statuses}", statuses[0] in (429, 503) and statuses[-1] == 200)
    equal("and is answered", answer.choices[0].finish_reason, "length")
    until("then all is quiet", lambda: is_idle(SLOW_URL))


def hold_in_queue(waiting):
    """Waits in the queue until the first refusal, and takes its leave.

    It asks for little: the server counts what waits when it says after how long to come back, and the client obeys.
    """
    with chat(STORY, slow, stream=True, max_tokens=4) as stream:
        waiting.wait(TIMEOUT)
        stream.close()


class Dish(pydantic.BaseModel):
    """Bounded on all sides: so small a model would go on for ever in a text that may have any length."""

    name: Literal["samosa", "chaat", "samosa chaat"]
    pieces: int = pydantic.Field(ge=1, le=12)
    hot: bool


def structured():
    """Answers that have the form that was asked for."""
    # Pushed to close what it has opened, for the same reason.
    brief = {str(tokens(prompt=close, add_special_tokens=False)[0]): 12 for close in ('"', "}")}
    fields = {"response_format": {"type": "json_object"}, "temperature": 0, "logit_bias": brief}
    said = text(**fields)
    check(f"an object of JSON: {said!r}", isinstance(json.loads(said), dict))
    equal("streamed too", streamed(**fields), said)
    schema = {
        "type": "object",
        "properties": {"dish": {"enum": ["samosa", "chaat"]}, "pieces": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["dish", "pieces"],
        "additionalProperties": False,
    }
    wish = {"type": "json_schema", "json_schema": {"name": "order", "schema": schema, "strict": True}}
    for seed in range(4):
        order = json.loads(text(response_format=wish, seed=seed, temperature=1.5))
        check(f"as the schema wants it: {order}", order["dish"] in ("samosa", "chaat") and 1 <= order["pieces"] <= 9)
        equal("and nothing else", sorted(order), ["dish", "pieces"])
    parsed = client.chat.completions.parse(model=MODEL, messages=CHAAT, response_format=Dish, temperature=0)
    check(f"a pydantic model: {parsed.choices[0].message.parsed!r}", isinstance(parsed.choices[0].message.parsed, Dish))
    with client.chat.completions.stream(model=MODEL, messages=CHAAT, response_format=Dish, temperature=0) as events:
        final = events.get_final_completion().choices[0].message.parsed
    equal("streamed it is the same", final, parsed.choices[0].message.parsed)
    for grammar in ('start: "yes" | "no"', {"syntax": "lark", "definition": 'start: "yes" | "no"'}):
        said = text(extra_body={"grammar": grammar}, seed=1)
        check(f"by a grammar: {said!r}", said in ("yes", "no"))
    said = text(extra_body={"grammar": {"syntax": "regex", "definition": "[A-C]{3}-[0-9]{2}"}}, seed=1)
    check(f"by a regular expression: {said!r}", len(said) == 6 and said[3] == "-" and said[4:].isdigit())
    wrong = {"type": "json_schema", "json_schema": {"name": "order", "schema": {"type": "nothing"}}}
    refused("a schema that is none", openai.BadRequestError, lambda: chat(response_format=wrong))
    refused("a grammar that is none", openai.BadRequestError, lambda: chat(extra_body={"grammar": "start: ("}))


PARTS = [
    models, whole, streams, asynchronous, seeds, choices, stops, likelihoods, biases, lengths, penalties, messages,
    completions, errors, cancel, crowd, full, structured,
]  # fmt: skip

if __name__ == "__main__":
    print(f"openai {openai.__version__}")
    for part in PARTS:
        if part.__name__ in sys.argv[1:] or not sys.argv[1:]:
            print(f"- {part.__name__}")
            part()
    done()
