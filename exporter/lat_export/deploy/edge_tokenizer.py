"""tokenizer.json -> tables for the edge runner's tokenizer (runner/tokenizer.h), or the reason why it cannot be one.

The runner knows byte-level BPE (GPT-2, RoBERTa, Longformer), and what is not exactly that is refused here, by name.
Character classes are asked of the tokenizers library, code point by code point: its tables of Unicode are the truth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.tokenizer_file import TOKENIZER_FILE

if TYPE_CHECKING:
    import numpy as np

TABLES_FILE = "tokenizer.safetensors"
CLASSES = {"letters": r"\p{L}", "numbers": r"\p{N}", "spaces": r"\s"}
SURROGATES = range(0xD800, 0xE000)
Json = dict[str, Any]


@dataclass(frozen=True)
class EdgeTokenizer:
    """
    Attributes:
        facts: "tokenizer" of edge.json.
        tables: arrays by name, for `TABLES_FILE`.
    """

    facts: Json
    tables: dict[str, np.ndarray[Any, Any]]


def edge_tokenizer(folder: Path) -> EdgeTokenizer | str:
    """
    Args:
        folder: with a tokenizer.json that `read_tokenizer` reads.
    Returns:
        The tables, or why the runner cannot have this tokenizer, to stand behind "this runner takes ids, not text: ".
    """
    data = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    why_not = next(_differences(data), None)
    return why_not if why_not else EdgeTokenizer(_facts(data), _tables(data))


def _differences(data: Json) -> Iterator[str]:
    """What of a tokenizer the runner does not do."""
    model, pre, post = data["model"], data.get("pre_tokenizer") or {}, data.get("post_processor") or {}
    if model.get("type") != "BPE" or pre.get("type") != "ByteLevel":
        kinds = " after ".join(str(part.get("type", "nothing")) for part in (model, pre))
        yield f"its tokenizer is {kinds}, and the runner knows byte-level BPE only"
        return
    if data.get("normalizer"):
        yield f"its tokenizer has a normalizer, {data['normalizer'].get('type')}, which the runner has not"
    if not pre.get("use_regex", True):
        yield "its tokenizer's ByteLevel has use_regex false"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(name):
            yield f"its tokenizer's BPE has {name}"
    if (data.get("decoder") or {}).get("type") != "ByteLevel":
        yield "its tokenizer's decoder is not ByteLevel"
    if _post_processors(post) is None:
        yield f"its tokenizer's post-processor is {post.get('type', 'nothing')} of a form that the runner has not"
    if any(token["single_word"] for token in data["added_tokens"]):
        yield "its tokenizer has an added token with single_word"
    lacking = [byte for byte, letter in enumerate(_byte_letters()) if letter not in model["vocab"]]
    if lacking:
        yield f"its tokenizer's vocabulary lacks {len(lacking)} of the 256 bytes"
    joined = {left + right for left, right in _merges(model)}
    if not joined <= model["vocab"].keys():
        yield "its tokenizer has merges to tokens that are not in its vocabulary"


def _post_processors(post: Json) -> tuple[Json, Json] | None:
    """What trims offsets, and what adds tokens."""
    if post.get("type") == "RobertaProcessing":
        return post, post
    if post.get("type") in ("TemplateProcessing", "BertProcessing"):
        return {}, post
    if post.get("type") == "Sequence":
        parts = post["processors"]
        if [part["type"] for part in parts] == ["ByteLevel", "TemplateProcessing"]:
            return parts[0], parts[1]
    return None


def _facts(data: Json) -> Json:
    found = _post_processors(data["post_processor"])
    assert found is not None
    trims, adds = found
    return {
        "file": TABLES_FILE,
        "add_prefix_space": int(data["pre_tokenizer"].get("add_prefix_space", True)),
        "trim_offsets": int(trims.get("trim_offsets", False)),
        "trim_prefix_space": int(trims.get("add_prefix_space", False)),
        "single": _parts(adds, "single"),
        "pair": _parts(adds, "pair"),
        "added_tokens": [
            {name: int(value) if isinstance(value, bool) else value for name, value in token.items()}
            for token in data["added_tokens"]
        ],
    }


def _parts(adds: Json, which: str) -> list[Json]:
    """The sequence that a text, or two, becomes: ids that are added, and where the texts go."""
    if adds["type"] == "TemplateProcessing":
        return list(_template(adds, which))
    first, last = ({"id": adds[name][1], "sequence": None, "type": 0} for name in ("cls", "sep"))
    text = [first, {"id": None, "sequence": 0, "type": 0}, last]
    if which == "single":
        return text
    # RoBERTa's second text has two separators before it, and type 0; BERT's one, and type 1.
    of_bert = adds["type"] == "BertProcessing"
    second = {"id": None, "sequence": 1, "type": int(of_bert)}
    return [*text, *([] if of_bert else [last]), second, {**last, "type": int(of_bert)}]


def _template(adds: Json, which: str) -> Iterator[Json]:
    for part in adds[which]:
        if "Sequence" in part:
            sequence = "AB".index(part["Sequence"]["id"])
            yield {"id": None, "sequence": sequence, "type": part["Sequence"]["type_id"]}
        else:
            special = part["SpecialToken"]
            for token in adds["special_tokens"][special["id"]]["ids"]:
                yield {"id": token, "sequence": None, "type": special["type_id"]}


def _tables(data: Json) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    vocabulary: dict[str, int] = {**data["model"]["vocab"], **{t["content"]: t["id"] for t in data["added_tokens"]}}
    of_id = {number: token for token, number in vocabulary.items()}
    letters = _byte_letters()
    bytes_of = {letter: byte for byte, letter in enumerate(letters)}
    decoded = [_decoded(of_id.get(number, ""), bytes_of) for number in range(max(of_id) + 1)]
    merges = [(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in _merges(data["model"])]
    return {
        "vocabulary.bytes": np.frombuffer(b"".join(decoded), np.uint8),
        "vocabulary.ends": np.cumsum([len(token) for token in decoded]).astype(np.int32),
        "bytes": np.array([vocabulary[letter] for letter in letters], np.int32),
        "merges": np.array(merges, np.int32).reshape(-1, 3),
        **{f"classes.{name}": np.array(ranges, np.int32) for name, ranges in _classes().items()},
    }


def _merges(model: Json) -> Iterator[tuple[str, str]]:
    """As pairs; older files have them as one string."""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's bytes_to_unicode)."""
    themselves = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in themselves]
    return [chr(byte if byte in themselves else 256 + others.index(byte)) for byte in range(256)]


def _decoded(token: str, bytes_of: dict[str, int]) -> bytes:
    """What a token stands for: its letters' bytes, or itself where a letter stands for none."""
    return bytes(bytes_of[letter] for letter in token) if bytes_of.keys() >= set(token) else token.encode()


@cache
def _classes() -> dict[str, list[tuple[int, int]]]:
    """Ranges of code points, both ends in them, of each class that the pattern of byte-level BPE knows."""
    from tokenizers import Regex, pre_tokenizers

    points = [point for point in range(sys.maxunicode + 1) if point not in SURROGATES]
    everything = "".join(map(chr, points))
    found = {}
    for name, pattern in CLASSES.items():
        rest = pre_tokenizers.Split(Regex(f"{pattern}+"), "removed").pre_tokenize_str(everything)
        ends = [0, *(place for _, ends in rest for place in ends), len(points)]
        # Surrogates stand in no text: a range may run over them.
        pairs = zip(ends[::2], ends[1::2], strict=True)
        found[name] = [(points[first], points[end - 1]) for first, end in pairs if first < end]
    return found
