"""Simon Willison's `llm` against the server, as it is used on a command line."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from checks import KEY, MODEL, TIMEOUT, URL, check, conversation, done, equal, generate, need

LLM = pathlib.Path(sys.executable).with_name("llm")
HOME = pathlib.Path(tempfile.mkdtemp())
ENVIRONMENT = {**os.environ, "LLM_USER_PATH": str(HOME)}

# JSON is YAML.
HOME.joinpath("extra-openai-models.yaml").write_text(
    json.dumps([{"model_id": "samosa", "model_name": MODEL, "api_base": f"{URL}/v1", "api_key_name": "samosa"}])
)
ASKED = "What is samosa chaat?"
WANTED = generate([{"role": "user", "content": ASKED}], 0, temperature=0)
GREEDY = ("-o", "temperature", "0")


def llm(*arguments, written=None, code=0):
    """What it writes; to its standard error if it is to fail."""
    done = subprocess.run(
        [LLM, *arguments], input=written or "", capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT, check=False
    )
    if done.returncode != code:
        need(f"`llm {' '.join(arguments)}` ends with {code}", False, done.returncode, done.stdout, done.stderr)
    return done.stderr if code else done.stdout.rstrip("\n")


def prompts():
    llm("keys", "set", "samosa", "--value", KEY)
    check("the model is listed", "samosa" in llm("models"))
    equal("a prompt, streamed", llm("-m", "samosa", *GREEDY, ASKED), WANTED)
    equal("and not", llm("-m", "samosa", *GREEDY, "--no-stream", ASKED), WANTED)
    wanted = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": ASKED}]
    equal("with a system prompt", llm("-m", "samosa", *GREEDY, "-s", "You are brief.", ASKED), generate(wanted, 0, temperature=0))
    seeded = ("-m", "samosa", "-o", "seed", "5", "-o", "max_tokens", "30", ASKED)
    equal("a seed repeats", llm(*seeded), llm(*seeded), generate(wanted[1:], 5, max_tokens=30))


def continued():
    """`llm -c` goes on with the talk that was last."""
    begun = []

    def ask(sentence):
        how = ("-c",) if begun else ("-m", "samosa")
        begun.append(sentence)
        return llm(*how, *GREEDY, sentence)

    conversation(ask)
    logged = json.loads(llm("logs", "list", "--json", "-n", "3"))
    check("tokens are logged", all(entry["input_tokens"] > 0 < entry["output_tokens"] for entry in logged), logged)


def piped():
    """`llm chat`, which reads its lines from a pipe."""
    asked = [ASKED, "Why?", "Tell me more."]
    said = llm("chat", "-m", "samosa", *GREEDY, written="\n".join([*asked, "quit", ""]))
    turns = []
    for sentence in asked:
        turns.append({"role": "user", "content": sentence})
        turns.append({"role": "assistant", "content": generate(turns, 0, temperature=0)})
        check(f"chat through a pipe answers: {turns[-1]['content'][:40]!r}…", turns[-1]["content"] in said, said)


def errors():
    llm("keys", "set", "samosa", "--value", "wrong")
    said = llm("-m", "samosa", ASKED, code=1)
    check("a wrong key is said to be wrong", "key" in said.lower() and "Traceback" not in said, said)


for part in (prompts, continued, piped, errors):
    print(f"- {part.__name__}")
    part()
done()
