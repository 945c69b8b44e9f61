"""The edge runner's tokenizer gives the tokens and offsets of the tokenizers library, or is refused."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from checkpoint_tokenizers import albert_tokenizer, longformer_tokenizer
from conftest import GOLDEN
from deploy.edge_folders import answers, changed, edge, with_tokenizer
from tokenizers import Tokenizer

from lat_export.deploy.edge_proof import HARD_TEXTS, as_runner_tells
from lat_export.deploy.edge_tokenizer import EdgeTokenizer, edge_tokenizer
from lat_export.pipeline import Exported

SEED = 20261121
RANDOM_TEXTS = 400
POINT_STEP = 61
# What random texts are put together from: a few of many kinds, and any code point.
PARTS = [" ", "  ", "\n", "\t", "'s", "'ll", "'", "the", "The keeper", "light", "<mask>", "</s>", "1", "٣", ".", "--"]
PARTS += [
    "é",
    "e\u0301",
    "\u00a0",
    "\u3000",
    "\u0085",
    "👍🏽",
    "你好",
    "Привет",
    "\u200d",
    "\u0000",
    "\u017f",
    "²",
    "_",
]


def random_texts() -> list[str]:
    draw = random.Random(SEED)

    def part() -> str:
        if draw.random() < 0.7:
            return draw.choice(PARTS)
        point = draw.randrange(sys.maxunicode + 1) if draw.random() < 0.5 else draw.randrange(0x3000)
        return chr(point) if not 0xD800 <= point < 0xE000 else "?"

    return ["".join(part() for _ in range(draw.randrange(1, 25))) for _ in range(RANDOM_TEXTS)]


@pytest.fixture(scope="module")
def folder(exported: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge(exported("text-classification").bundle.folder, tmp_path_factory.mktemp("edge") / "out")


def saved(data: dict[str, Any], folder: Path) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def golden_data() -> dict[str, Any]:
    path = GOLDEN / "longformer" / "text-classification" / "checkpoint" / "tokenizer.json"
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def longformer_data() -> dict[str, Any]:
    """As transformers makes it, and as published checkpoints have it: <mask> takes the blanks before it along."""
    data: dict[str, Any] = json.loads(longformer_tokenizer().backend_tokenizer.to_str())
    (mask,) = (token for token in data["added_tokens"] if token["content"] == "<mask>")
    mask["lstrip"] = True
    return data


def with_blank_before(data: dict[str, Any]) -> dict[str, Any]:
    data["pre_tokenizer"]["add_prefix_space"] = True
    return data


def with_template(data: dict[str, Any]) -> dict[str, Any]:
    """Types of a second text, untrimmed offsets, and added tokens of every kind."""
    ends = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    more = [{"SpecialToken": {"id": "</s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    ids = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (("<s>", 0), ("</s>", 2))}
    data["post_processor"] = {"type": "TemplateProcessing", "single": ends, "pair": ends + more, "special_tokens": ids}
    number = max(data["model"]["vocab"].values())
    for content, flags in {"light": "normalized", "the": "rstrip", "--": "lstrip", "The keeper": "special"}.items():
        number += 1
        kinds = {name: name == flags for name in ("lstrip", "rstrip", "normalized", "special")}
        data["added_tokens"].append({"id": number, "content": content, "single_word": False, **kinds})
    return data


def with_trimming(data: dict[str, Any]) -> dict[str, Any]:
    template = with_template(data)["post_processor"]
    trims = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    data["post_processor"] = {"type": "Sequence", "processors": [trims, template]}
    return data


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "golden": golden_data,
    "Longformer's": longformer_data,
    "blank before the first word": lambda: with_blank_before(golden_data()),
    "blank before, <mask> strips": lambda: with_blank_before(longformer_data()),
    "template": lambda: with_template(golden_data()),
    "template, trimmed": lambda: with_trimming(with_blank_before(golden_data())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_becomes_the_same_tokens(kind: str, folder: Path, tmp_path: Path) -> None:
    source = saved(KINDS[kind](), tmp_path / "tokenizer")
    tables = edge_tokenizer(source)
    assert isinstance(tables, EdgeTokenizer), tables
    place = with_tokenizer(folder, tmp_path / "copy", tables)
    known = Tokenizer.from_file(str(source / "tokenizer.json"))
    texts = [*HARD_TEXTS, *random_texts(), " ".join(HARD_TEXTS) * 20]
    pairs = list(pairwise(texts))
    found = answers(
        place,
        [*({"text": text} for text in texts), *({"text": text, "pair": pair} for text, pair in pairs)],
        "--encode",
    )
    wanted = [known.encode(text) for text in texts] + [known.encode(*pair) for pair in pairs]
    for one, other, text in zip(found, map(as_runner_tells, wanted), [*texts, *pairs], strict=True):
        assert one == other, text


def test_code_points_of_all_planes_are_cut_as_the_library_cuts_them(folder: Path) -> None:
    """Beside a letter, a number and a mark: one word or two, and bytes that are no other character's."""
    known = Tokenizer.from_str(json.dumps(golden_data()))
    points = [point for point in range(0, sys.maxunicode + 1, POINT_STEP) if not 0xD800 <= point < 0xE000]
    texts = ["".join(f"a{chr(point)}1{chr(point)}!{chr(point)} " for point in points[at : at + 2000])
             for at in range(0, len(points), 2000)]  # fmt: skip
    for one, text in zip(answers(folder, [{"text": text} for text in texts], "--encode"), texts, strict=True):
        assert one == as_runner_tells(known.encode(text))


def changed_part(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, name = path.split(".")
    place = data
    for parent in parents:
        place = place[parent]
    place[name] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("normalizer", {"type": "NFC"}, "a normalizer, NFC"),
        ("pre_tokenizer.use_regex", False, "use_regex"),
        ("pre_tokenizer", {"type": "Whitespace"}, "BPE after Whitespace"),
        ("model.dropout", 0.1, "dropout"),
        ("model.byte_fallback", True, "byte_fallback"),
        ("model.ignore_merges", True, "ignore_merges"),
        ("model.end_of_word_suffix", "</w>", "end_of_word_suffix"),
        ("model.vocab", {"a": 0}, "lacks 255 of the 256 bytes"),
        ("decoder", None, "decoder is not ByteLevel"),
        ("post_processor", None, "post-processor is nothing"),
        ("post_processor", {"type": "Sequence", "processors": [{"type": "Other"}]}, "post-processor is Sequence"),
    ],
)
def test_what_is_not_known_is_refused_by_name(path: str, value: Any, said: str, tmp_path: Path) -> None:
    why = edge_tokenizer(saved(changed_part(golden_data(), path, value), tmp_path / "tokenizer"))
    assert isinstance(why, str)
    assert said in why


def test_alberts_is_refused_and_ids_are_taken(folder: Path, tmp_path: Path) -> None:
    data = json.loads(albert_tokenizer().backend_tokenizer.to_str())
    why = edge_tokenizer(saved(data, tmp_path / "tokenizer"))
    assert (
        why == "its tokenizer is Unigram after Metaspace, and the runner knows byte-level BPE only" or "Unigram" in why
    )
    place = changed(folder, tmp_path / "copy", tokenizer=None, why_no_text=why)
    by_text, by_ids = answers(place, [{"text": "a"}, {"ids": [0, 7, 2]}])
    assert by_text["error"]["what"] == f"this runner takes ids, not text: {why}"
    assert by_ids == answers(folder, [{"ids": [0, 7, 2]}])[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("add_prefix_space", 1), ("trim_offsets", 0), ("single", [{"id": None, "sequence": 0, "type": 0}])],
)
def test_a_wrong_fact_shows(name: str, value: Any, folder: Path, tmp_path: Path) -> None:
    """The comparison above bites."""
    facts = json.loads((folder / "edge.json").read_text())["tokenizer"]
    assert facts[name] != value
    place = changed(folder, tmp_path / "copy", tokenizer={**facts, name: value})
    known = Tokenizer.from_str(json.dumps(golden_data()))
    found = answers(place, [{"text": text} for text in HARD_TEXTS], "--encode")
    assert found != [as_runner_tells(known.encode(text)) for text in HARD_TEXTS]
