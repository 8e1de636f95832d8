"""Writes 200 questions of the kinds that the built-in model was made for: goldens/quality/own_kind.jsonl.

    python training/own_kind.py > goldens/quality/own_kind.jsonl

They are made by the templates of synthetic.py with a seed that training did not use, each at most once. Sums are none
of those that training asked. The other kinds have few questions, so most of them, word for word, it did ask.
"""

import json

import synthetic

SEED, TRAINED, COUNT = 2026, 12000, 200


def first_questions(conversations):
    return (c["messages"][0]["content"] for c in conversations)


def asked(conversations):
    return {m["content"] for c in conversations for m in c["messages"] if m["role"] == "user"}


def is_sum(question):
    return any(character.isdigit() for character in question)


def main():
    trained = asked(synthetic.conversations(TRAINED))
    questions = {}
    for question in first_questions(synthetic.conversations(50 * COUNT, SEED)):
        if len(questions) < COUNT and not (is_sum(question) and question in trained):
            questions[question] = None
    for question in questions:
        print(json.dumps({"messages": [{"role": "user", "content": question}]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
