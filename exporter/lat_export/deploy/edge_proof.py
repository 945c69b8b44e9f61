# ruff: noqa: RUF001  letters that look alike are what these texts are for
"""The edge runner's tokenizer against the checkpoint's own, on this machine, before the folder is handed out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.errors import LatExportError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Where tokenizers part: blanks of every kind, contractions, scripts, combining marks, emoji, bytes that no token joins,
# control characters, and the text of special tokens.
HARD_TEXTS = (
    "",
    " ",
    "  ",
    "\n",
    "\t \n\r\n  a",
    "a",
    " a",
    "a  b   c",
    "a\u00a0b\u3000c\u2009 d\u200bz\u00ad",
    "It's we'll they've I'd I'm you're 'tis ' 's 'S 'LL ''s",
    "don't   stop   ",
    "3.14159, 1,000,000 and ½ ² Ⅷ ٣ 十 ๓",
    "évening e\u0301vening ÅNGSTRÖM ß ŉ ﬁ Ǆ İ ı",
    "Привет мир, Γειά σου, שלום, مرحبا, नमस्ते, สวัสดี, 你好世界, こんにちは, 안녕하세요",
    "👍 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ☃️ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈",
    "a\u0000b\u0001\u001f\u007f\u0085\u2028\u2029\ufeff\ufffd\ufffe",
    "(x)[y]{z}<w> #hash @at $1 50% a_b a-b a--b ... !? «quoted» “quoted”",
    "https://example.com/a?b=c&d=%20#e user@example.com C:\\path\\file",
    "camelCase snake_case SHOUTING aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "before<mask>behind <mask>  <mask>\n<mask> <s> </s> <pad> <unk> < mask > <mask",
)


def prove_tokenizer(program: Path, tokenizer: Tokenizer) -> None:
    """Every hard text, alone and with the next one as a pair.

    Args:
        program: `lat_edge` in its folder.
    Raises:
        LatExportError: a text that becomes other tokens or offsets, or the program does not run.
    """
    pairs = [
        *((text, None) for text in HARD_TEXTS),
        *zip(HARD_TEXTS, (*HARD_TEXTS[1:], HARD_TEXTS[0]), strict=True),
    ]
    lines = [json.dumps({"text": text} if pair is None else {"text": text, "pair": pair}) for text, pair in pairs]
    done = subprocess.run(
        [program, "--encode"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    told = done.stdout.splitlines()
    if done.returncode or len(told) != len(pairs):
        said = (done.stderr.strip() or done.stdout[-300:]).splitlines() or ["nothing"]
        raise LatExportError(
            "the edge runner does not run on this machine", got=said[0], where={"command": done.args[0]}
        )
    for line, (text, pair) in zip(told, pairs, strict=True):
        found, wanted = json.loads(line), as_runner_tells(tokenizer.encode(text, pair))
        if found != wanted:
            raise LatExportError(
                "the runner's tokenizer is not the checkpoint's",
                got=f"{found['ids']} for {text!r}" + (f" and {pair!r}" if pair is not None else ""),
                expected=wanted["ids"],
                hint="a bug of lat-export; --no-text writes a folder that takes ids",
            )


def as_runner_tells(encoding: Encoding) -> dict[str, object]:
    """An encoding of the tokenizers library in the words of `lat_runner_encode`."""
    return {
        "ids": encoding.ids,
        "type_ids": encoding.type_ids,
        "offsets": [list(ends) for ends in encoding.offsets],
        "special": encoding.special_tokens_mask,
    }
