"""Cases that a user gives: texts, through the checkpoint's own tokenizer, and arrays by input name."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.digest import file_sha256
from lat_export.errors import InputError, ShapeError, first_line
from lat_export.text_inputs import Request, Terms, check_request, encode, separator_of, text_inputs
from lat_export.tokenizer_file import TOKENIZER_FILE, read_tokenizer
from lat_export.types import Signature
from lat_export.validation.cases import GIVEN, Case

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

    Arrays = dict[str, np.ndarray[Any, Any]]

LINE_KEYS = ("text", "question", "choices")
LINE_EXAMPLE = '{"text": "...", "question": "...", "choices": ["...", "..."]}'
LINE_HINT = f"a JSON line is {LINE_EXAMPLE}, with the keys that the task takes"
LINE_TERMS = Terms('a "question"', '"choices"', hint_on_question=LINE_HINT, hint_on_choices=LINE_HINT)


@dataclass(frozen=True)
class GivenCases:
    """
    Attributes:
        cases: each with inputs that fit the signature.
        files: SHA-256 of every file that they were read from, by name.
        tokenized: whether the checkpoint's tokenizer made some of them.
    """

    cases: tuple[tuple[Case, Arrays], ...]
    files: dict[str, str] = field(default_factory=dict)
    tokenized: bool = False


def given_cases(
    signature: Signature, checkpoint: Path, texts: Path | None, arrays: Iterable[Path]
) -> GivenCases | None:
    """The cases of a file of texts and of files of arrays, in this order; None where neither is given.

    Args:
        checkpoint: the folder with tokenizer.json and config.json.
        texts: one text a line, or one JSON object a line (see `read_requests`); blank lines count, and are no case.
        arrays: one call a file, as `numpy.savez(file, input_ids=..., attention_mask=...)` writes it.
    Raises:
        InputError, ShapeError: a file or line that gives no case; the error names it.
    """
    names = _names([*([texts] if texts else []), *arrays])
    cases: list[tuple[Case, Arrays]] = []
    if texts is not None:
        cases += _of_texts(signature, checkpoint, texts, names[texts])
    for path in arrays:
        with told_of(names[path]):
            inputs = _read_arrays(path, signature)
            cases.append((given_case(signature, inputs, names[path]), inputs))
    if not cases:
        return None
    return GivenCases(tuple(cases), {names[path]: file_sha256(path) for path in names}, texts is not None)


def given_case(signature: Signature, inputs: Arrays, source: str) -> Case:
    """The case of inputs that come from `source`.

    Raises:
        ShapeError: inputs that do not fit the signature.
    """
    import numpy as np

    unknown = sorted(set(inputs) - {spec.name for spec in signature.inputs})
    if unknown:
        raise ShapeError(
            "no such input",
            got=", ".join(unknown),
            expected=", ".join(spec.name for spec in signature.inputs),
            hint="token_type_ids, position_ids and inputs_embeds are inputs only where --inputs names them",
        )
    signature.check_inputs(inputs)
    for name, array in inputs.items():
        if not np.isfinite(array).all():
            raise ShapeError("NaN or Inf in an input", expected="finite numbers", where={"input": name})
    sizes = dict(zip(signature.token_dims, inputs["attention_mask"].shape, strict=True))
    return Case(sizes["batch"], sizes["sequence"], GIVEN, GIVEN, sizes.get("choices"), source)


def read_requests(path: Path, name: str) -> Iterator[tuple[str, Request]]:
    """Every text of a file with the place that it has there.

    A file whose name ends in .jsonl, or whose first line is a JSON object with "text", holds JSON lines; any other
    holds one text a line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the texts cannot be read", got=first_line(error), expected="a file in UTF-8") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError("no text in that file", got=path, expected="one text a line, or one JSON object a line")
    is_json = path.suffix == ".jsonl" or _is_request(numbered[0][1])
    for number, line in numbered:
        source = f"{name} line {number}"
        with told_of(source):
            yield source, _parsed(line) if is_json else Request(line)


def _is_request(line: str) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "text" in found


def _parsed(line: str) -> Request:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise InputError("not a JSON object", got=first_line(error), expected=LINE_EXAMPLE) from error
    checks: dict[str, Callable[[Any], bool]] = {
        "text": lambda value: isinstance(value, str),
        "question": lambda value: value is None or isinstance(value, str),
        "choices": lambda value: isinstance(value, list) and all(isinstance(choice, str) for choice in value),
    }
    if not isinstance(found, dict) or "text" not in found or not set(found) <= set(LINE_KEYS):
        raise InputError('not a JSON object with "text"', got=line[:200], expected=LINE_EXAMPLE)
    for key, value in found.items():
        if not checks[key](value):
            raise InputError(f'"{key}" is of another type', got=json.dumps(value)[:200], expected=LINE_EXAMPLE)
    return Request(found["text"], found.get("question"), tuple(found.get("choices", ())))


def _of_texts(signature: Signature, checkpoint: Path, path: Path, name: str) -> list[tuple[Case, Arrays]]:
    if not signature.has_input("input_ids"):
        raise InputError("with inputs_embeds a model takes no texts", got=path, hint="give --arrays, or no --inputs")
    tokenizer = _tokenizer(checkpoint)
    separator = separator_of(json.loads((checkpoint / "config.json").read_text()))
    cases = []
    for source, request in read_requests(path, name):
        with told_of(source):
            check_request(request, signature.task, LINE_TERMS)
            inputs = text_inputs(signature, [encode(tokenizer, request, signature.task)], separator)
            cases.append((given_case(signature, inputs, source), inputs))
    return cases


def _tokenizer(checkpoint: Path) -> Tokenizer:
    tokenizer = read_tokenizer(checkpoint)
    if tokenizer is None:
        raise InputError(
            f"the checkpoint has no {TOKENIZER_FILE}, so it takes no texts",
            got=checkpoint,
            hint="save the tokenizer beside the weights (tokenizer.save_pretrained), or give --arrays",
        )
    return tokenizer


def _read_arrays(path: Path, signature: Signature) -> Arrays:
    import numpy as np

    example = ", ".join(f"{spec.name}=..." for spec in signature.inputs)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError("the arrays cannot be read", got=first_line(error), expected="an .npz file") from error
    # A text or a pickle is a ValueError, an .npy has no `with`, and a cut archive is one of the others.
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            "not an .npz file of plain arrays", got=path, expected=f"what numpy.savez(file, {example}) writes"
        ) from error


def _names(paths: list[Path]) -> dict[Path, str]:
    """A name without its folder for every file, each another one."""
    names: dict[Path, str] = {}
    for path in paths:
        if path in names:
            raise InputError("a file is given twice", got=path)
        again = sum(name.partition(" ")[0] == path.name for name in names.values())
        names[path] = f"{path.name} ({again + 1})" if again else path.name
    return names


@contextmanager
def told_of(source: str) -> Iterator[None]:
    """An error inside tells which case it is about."""
    try:
        yield
    except InputError as error:
        if "case" in error.where:
            raise
        where = {"case": source, **error.where}
        raise type(error)(error.what, got=error.got, expected=error.expected, hint=error.hint, where=where) from error
