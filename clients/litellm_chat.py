"""LiteLLM against the server: whole, streamed, over three turns, and the errors that it makes of ours."""

import asyncio

import litellm
from checks import KEY, MODEL, TIMEOUT, URL, conversation, done, equal, generate, refused

litellm.suppress_debug_info = True

ASKED = [{"role": "user", "content": "What is samosa chaat?"}]
WANTED = generate(ASKED, 0, temperature=0)
SERVER = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": KEY}


def ask(messages=ASKED, **fields):
    return litellm.completion(**{**SERVER, "messages": messages, "timeout": TIMEOUT, "num_retries": 0, **fields})


def whole():
    answer = ask(temperature=0)
    equal("it says what POST /generate says", answer.choices[0].message.content, WANTED)
    equal("and why it ended", answer.choices[0].finish_reason, "stop")
    usage = answer.usage
    equal("usage adds up", usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)
    cut = WANTED[: WANTED.index(" from")]
    equal("a stop ends it", ask(temperature=0, stop=[" from"]).choices[0].message.content, cut)
    seeds = [ask(seed=5, max_tokens=30).choices[0].message.content for _ in range(2)]
    equal("a seed repeats", *seeds, generate(ASKED, 5, max_tokens=30))


def streams():
    chunks = list(ask(temperature=0, stream=True, stream_options={"include_usage": True}))
    content = lambda chunk: (chunk.choices[0].delta.content or "") if chunk.choices else ""
    equal("a stream says it too", "".join(map(content, chunks)), WANTED)
    counted = [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)]
    equal("with usage once", counted, [ask(temperature=0).usage.total_tokens])

    async def pieces():
        fields = {**SERVER, "messages": ASKED, "temperature": 0, "timeout": TIMEOUT}
        return [content(chunk) async for chunk in await litellm.acompletion(**fields, stream=True)]

    equal("and asynchronously", "".join(asyncio.run(pieces())), WANTED)


def memory():
    turns = []

    def say(sentence):
        turns.append({"role": "user", "content": sentence})
        turns.append({"role": "assistant", "content": ask(turns, temperature=0).choices[0].message.content})
        return turns[-1]["content"]

    conversation(say)


def errors():
    long = [{"role": "user", "content": "1 2 3 4 5 6 7 8 9 " * 300}]
    refused("too long a talk", litellm.ContextWindowExceededError, lambda: ask(long), status_code=400)
    refused("a wrong key", litellm.AuthenticationError, lambda: ask(api_key="wrong"), status_code=401)
    refused("a model that is not", litellm.NotFoundError, lambda: ask(model="openai/gpt-4o"), status_code=404)
    refused("a temperature of 3", litellm.BadRequestError, lambda: ask(temperature=3), status_code=400)
    refused("an unknown field", litellm.BadRequestError, lambda: ask(extra_body={"foo": 1}), status_code=400)


print(f"litellm against {URL}/v1")
for part in (whole, streams, memory, errors):
    print(f"- {part.__name__}")
    part()
done()
