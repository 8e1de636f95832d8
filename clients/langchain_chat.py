"""LangChain's ChatOpenAI against the server: whole, streamed, in a batch, over three turns, and as an object."""

import asyncio
from typing import Literal

import openai
import pydantic
from checks import KEY, MODEL, TIMEOUT, URL, check, conversation, done, equal, generate, refused
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(base_url=f"{URL}/v1", api_key=KEY, model=MODEL, temperature=0, timeout=TIMEOUT, max_retries=0)

ASKED = "What is samosa chaat?"
WANTED = generate([{"role": "user", "content": ASKED}], 0, temperature=0)


class Dish(pydantic.BaseModel):
    """Bounded on all sides: so small a model would go on for ever in a text that may have any length."""

    name: Literal["samosa", "chaat", "samosa chaat"]
    pieces: int = pydantic.Field(ge=1, le=12)


def whole():
    answer = llm.invoke(ASKED)
    equal("invoke says what POST /generate says", answer.content, WANTED)
    equal("and why it ended", answer.response_metadata["finish_reason"], "stop")
    usage = answer.usage_metadata
    equal("usage adds up", usage["input_tokens"] + usage["output_tokens"], usage["total_tokens"])
    led = [SystemMessage("You are brief."), HumanMessage(ASKED)]
    wanted = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": ASKED}]
    equal("a system message is read", llm.invoke(led).content, generate(wanted, 0, temperature=0))


def streams():
    chunks = list(llm.stream(ASKED, stream_usage=True))
    check(f"stream comes in {len(chunks)} pieces", len(chunks) > 5)
    equal("which are the answer", "".join(chunk.content for chunk in chunks), WANTED)
    counted = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    equal("with usage once", counted, [llm.invoke(ASKED).usage_metadata])

    async def pieces():
        return [chunk.content async for chunk in llm.astream(ASKED)]

    equal("astream says it too", "".join(asyncio.run(pieces())), WANTED)
    equal("a stop ends it", llm.invoke(ASKED, stop=[" from"]).content, WANTED[: WANTED.index(" from")])


def batch():
    asked = [ASKED, "Hello", "What is 12 * 7?", "Tell me a story."]
    together = [answer.content for answer in llm.batch(asked)]
    equal("a batch says what each says alone", together, [llm.invoke(each).content for each in asked])


def memory():
    turns = []

    def ask(sentence):
        turns.append(HumanMessage(sentence))
        turns.append(AIMessage(llm.invoke(turns).content))
        return turns[-1].content

    conversation(ask)


def errors():
    wrong = ChatOpenAI(base_url=f"{URL}/v1", api_key="wrong", model=MODEL, max_retries=0)
    refused("a wrong key", openai.AuthenticationError, lambda: wrong.invoke("Hello"), code="invalid_api_key")
    long = "1 2 3 4 5 6 7 8 9 " * 300
    refused("too long a talk", openai.BadRequestError, lambda: llm.invoke(long), code="context_length_exceeded")


def structured():
    asking = llm.with_structured_output(Dish, method="json_schema")
    dish = asking.invoke(ASKED)
    check(f"with_structured_output gives an object: {dish!r}", isinstance(dish, Dish))
    equal("and streams the same one", list(asking.stream(ASKED))[-1], dish)


for part in (whole, streams, batch, memory, errors, structured):
    print(f"- {part.__name__}")
    part()
done()
