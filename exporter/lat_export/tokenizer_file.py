"""tokenizer.json: read with the tokenizers library, without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.errors import InputError, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in a folder, without its own padding and truncation; None where there is no tokenizer.json.

    Raises:
        InputError: the file is damaged.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise InputError(
            f"{TOKENIZER_FILE} cannot be read",
            got=f"{path}: {first_line(error)}",
            hint="save it again with tokenizer.save_pretrained",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
