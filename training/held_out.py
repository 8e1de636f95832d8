"""Writes the conversations that train.py held out and no training text repeats: goldens/quality/chat.jsonl.

    python training/held_out.py --data DIR > goldens/quality/chat.jsonl

train.py shuffles chat.jsonl with seed 1 and keeps the first 400 conversations for its held-out loss. Some of them are
told again elsewhere: windows of one dialogue overlap, and text.jsonl holds whole dialogues and stories. So a
conversation is left out if any eight words in a row, or all of it, occur in what the model was trained on.
"""

import argparse
import json
import random
import re
from pathlib import Path

import synthetic

HELD_OUT, RUN = 400, 8
# Sources whose licence asks for no more than the credit and notices in goldens/quality/README.md.
SOURCES = {"corpora-cc0", "oewn-words", "tinytalks", "taskmaster4", "self-dialogue", "chatterbot", "woz2", "self-instruct-human"}


def read_jsonl(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def words(text):
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


def runs(text):
    return {text[i:i + RUN] for i in range(len(text) - RUN + 1)}


def said(conversation):
    parts = [m["content"] for m in conversation["messages"]]
    return words(" ".join(p if isinstance(p, str) else " ".join(part["text"] for part in p) for p in parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--synthetic", type=int, default=12000)
    args = parser.parse_args()
    chat = read_jsonl(args.data / "chat.jsonl")
    random.Random(1).shuffle(chat)
    trained = [said(c) for c in chat[HELD_OUT:]] + [said(c) for c in synthetic.conversations(args.synthetic)]
    trained += [words(d["text"]) for d in read_jsonl(args.data / "text.jsonl")]
    held = [c for c in chat[:HELD_OUT] if c["source"] in SOURCES]
    sought = {c for c in map(said, held)} | {run for c in held for run in runs(said(c))}
    seen = {text for text in trained if text in sought} | {run for text in trained for run in runs(text) if run in sought}
    for conversation in held:
        text = said(conversation)
        if text not in seen and not runs(text) & seen:
            print(json.dumps(conversation, ensure_ascii=False))


if __name__ == "__main__":
    main()
