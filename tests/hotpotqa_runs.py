# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions in HotpotQA's form for tests: a dozen about invented people, and some about real articles if there are."""

import json
import re
from pathlib import Path
from typing import Any

PEOPLE = {  # whose friend, and what colour
    "Ann": ("Bob", "red"),
    "Bob": ("Cy", "blue"),
    "Cy": ("Dan", "red"),
    "Dan": ("Eve", "green"),
    "Eve": ("Fay", "blue"),
    "Fay": ("Ann", "green"),
}


def paragraph(name: str) -> list[Any]:
    """A title and two sentences."""
    friend, colour = PEOPLE[name]
    return [name, [f"{name} is {colour}.", f" Her dog is {friend}."]]


def invented() -> list[dict[str, Any]]:
    """A dozen questions over four paragraphs each, half of them with "yes" or "no" for an answer."""
    names, questions = list(PEOPLE), []
    for number, name in enumerate(names):
        friend, colour = PEOPLE[name]
        others = [one for one in names if one not in (name, friend)][:2]
        order = [others[0], name, others[1], friend] if number % 2 else [friend, others[0], name, others[1]]
        context = [paragraph(one) for one in order]
        hop = {"_id": f"hop{number}", "question": f"colour of dog of {name}", "answer": PEOPLE[friend][1]}
        hop |= {"supporting_facts": [[name, 1], [friend, 0]], "context": context, "type": "bridge", "level": "easy"}
        third = names[(number + 2) % len(names)]
        rest = [one for one in names if one not in (name, third)][:2]
        both = [paragraph(one) for one in (name, rest[0], third, rest[1])]
        same = "yes" if PEOPLE[third][1] == colour else "no"
        pair = {"_id": f"pair{number}", "question": f"are {name} and {third} one colour", "answer": same}
        pair |= {"supporting_facts": [[name, 0], [third, 0]], "context": both, "type": "comparison", "level": "easy"}
        questions += [hop, pair]
    return questions


def write(file: Path, questions: list[dict[str, Any]]) -> Path:
    """A file as HotpotQA has it, or JSON lines, by its ending."""
    lines = [json.dumps(one) for one in questions]
    file.write_text("\n".join(lines) if file.suffix == ".jsonl" else f"[{', '.join(lines)}]")
    return file


def in_columns(question: dict[str, Any]) -> dict[str, Any]:
    """A question as the Hub has it."""
    context, facts = question["context"], question["supporting_facts"]
    return {
        "id": question["_id"],
        **{name: question[name] for name in ("question", "answer", "type", "level")},
        "context": {"title": [title for title, _ in context], "sentences": [texts for _, texts in context]},
        "supporting_facts": {"title": [title for title, _ in facts], "sent_id": [number for _, number in facts]},
    }


def of_articles(file: Path, number: int) -> list[dict[str, Any]]:
    """Questions of a file of SQuAD among ten paragraphs of different articles: the sentence with the answer, and the
    first one of another paragraph of that article, are the supporting facts.
    """
    articles = json.loads(file.read_text(encoding="utf-8"))["data"]
    questions: list[dict[str, Any]] = []
    for index, article in enumerate(articles):
        one, other = article["paragraphs"][:2]
        asked = next((asked for asked in one["qas"] if asked["answers"]), None)
        if asked is None:
            continue
        answer = asked["answers"][0]
        pages = {article["title"]: one, f"{article['title']} (2)": other}
        for step in range(1, 9):
            distractor = articles[(index + step) % len(articles)]
            pages[distractor["title"]] = distractor["paragraphs"][0]
        context = [[title, sentences_of(page["context"])] for title, page in sorted(pages.items())]
        ends = [sum(map(len, sentences_of(one["context"])[: count + 1])) for count in range(99)]
        sentence = next(count for count, end in enumerate(ends) if answer["answer_start"] < end)
        facts = [[article["title"], sentence], [f"{article['title']} (2)", 0]]
        row = {"_id": asked["id"], "question": asked["question"], "answer": answer["text"]}
        questions.append({**row, "context": context, "supporting_facts": facts})
    return questions[:number]


def sentences_of(text: str) -> list[str]:
    """A text cut behind full stops; joined, they are the text."""
    return [one for one in re.split(r"(?<=\.)(?=\s)", text) if one]
