"""lat::LshCumulation: attention by sampled hash collisions (YOSO): a table of summed values for every hash.

Source: YOSO, arXiv 2111.09714, section 3.3 and algorithm 1; transformers YosoLSHCumulation, whose `hashing` gives the
key's code to the query too; this op hashes each for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.errors import ShapeError
from lat_export.ops.contract import Attribute, Op, Port, StaticBounds, heads_divide_width
from lat_export.ops.heads import Heads
from lat_export.ops.onnx_types import FLOAT32, INT64
from lat_export.ops.token_mask import PADDING, mask_equals
from lat_export.ops.torch_heads import split_heads
from lat_export.ops.unit_rows import SMALLEST_NORM, unit_rows

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def codes(rows: torch.Tensor, projection: torch.Tensor, num_hash: int) -> torch.Tensor:
    """Hash codes.

    Args:
        rows: (B, H, N, D).
        projection: (H, D, R * T), columns of one hash beside each other.
    Returns:
        (B, H, N, R) int64, each in 0 to 2^T - 1: bit t is the sign of the projection on column r * T + t.
    """
    import torch

    bits = ((rows @ projection) > 0).view(*rows.shape[:-1], num_hash, -1)
    powers = 2 ** torch.arange(bits.shape[-1], device=rows.device)
    return (bits * powers).sum(-1)


def collisions(query: torch.Tensor, key: torch.Tensor, projection: torch.Tensor, num_hash: int) -> torch.Tensor:
    """(B, H, N, D) twice -> (B, H, N, N): the share of hashes in which two codes are alike."""
    query_codes, key_codes = codes(query, projection, num_hash), codes(key, projection, num_hash)
    found = [
        (query_codes[..., r, None] == key_codes[..., None, :, r]).to(projection.dtype)  # (B, H, N, N)
        for r in range(num_hash)
    ]
    total = found[0]
    for share in found[1:]:
        total = total + share
    return total / num_hash


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    projection: torch.Tensor,
    *,
    num_heads: int,
    num_hash: int,
    hash_code_len: int,
    normalised: bool = True,
) -> torch.Tensor:
    """A table a hash, filled in the order of the keys, then read by the queries.

    Args:
        query: (B, N, E); float32, float16, bfloat16 or float64.
        key: (B, N, E).
        value: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, else token.
        projection: (H, D, R * T), drawn once at export.
        num_heads: H.
        num_hash: R.
        hash_code_len: T.
        normalised: divide each row of a head by its L2 norm.
    Returns:
        (B, N, E), dtype of query; padded rows are zero.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    query_codes, key_codes = (codes(split_heads(rows, num_heads), projection, num_hash) for rows in (query, key))
    v = split_heads(value, num_heads).to(accumulate).masked_fill((attention_mask == PADDING)[:, None, :, None], 0)
    context = torch.zeros_like(v)
    for r in range(num_hash):
        table = v.new_zeros(*v.shape[:2], 2**hash_code_len, v.shape[-1])
        row_of_key = key_codes[..., r, None].expand(-1, -1, -1, v.shape[-1])
        row_of_query = query_codes[..., r, None].expand(-1, -1, -1, v.shape[-1])
        table.scatter_add_(2, row_of_key, v)
        context += table.gather(2, row_of_query)
    context /= num_hash
    if normalised:
        context = torch.nn.functional.normalize(context, dim=-1, eps=SMALLEST_NORM)
    rows = context.transpose(1, 2).flatten(2).to(query.dtype)
    return rows.masked_fill((attention_mask == PADDING)[..., None], 0)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """O(R * N * 2^T) time, O(N * 2^T) memory: one-hot products, hash after hash in a scan.

    A table is the product of the keys' one-hot codes with the values, and reading it the product of the queries' with
    the table: no scatter with a reduction, which TensorRT-RTX does not take, and sums in a fixed order.
    """
    query, key, value, mask, projection = op.inputs
    heads = Heads(op, query, mask)
    padding = mask_equals(op, mask, PADDING)
    values = op.Cast(heads.split(value), to=FLOAT32)
    values = op.Where(op.Unsqueeze(padding, [1, 3]), 0.0, values)
    query_codes, key_codes = (_codes(op, heads, rows, projection) for rows in (query, key))  # R, B, H, N
    last = op.Sub(op.Cast(op.Pow(2.0, op.Cast(op.attribute("hash_code_len"), to=FLOAT32)), to=INT64), 1)
    every_code = op.Range(0, op.Add(last, 1), 1)

    def add_hash(inner: BodyBuilder, state: ir.Value, query_code: ir.Value, key_code: ir.Value) -> ir.Value:
        """One hash: `state` [B, H, N, D] grows by what each query finds in the table."""
        key_one_hot = inner.Cast(
            inner.Equal(inner.Unsqueeze(key_code, [2]), inner.Unsqueeze(every_code, [1])), to=FLOAT32
        )
        query_one_hot = inner.Cast(inner.Equal(inner.Unsqueeze(query_code, [3]), every_code), to=FLOAT32)
        table = inner.MatMul(key_one_hot, values)  # B, H, 2^T, D
        return inner.Add(state, inner.MatMul(query_one_hot, table))

    nothing = op.Mul(values, 0.0)
    context = op.scan(add_hash, nothing, query_codes, key_codes)
    context = unit_rows(op, op.Div(context, op.Cast(op.attribute("num_hash"), to=FLOAT32)))
    rows = heads.join(op.CastLike(context, value))
    return op.Where(op.Unsqueeze(padding, [2]), op.CastLike(0.0, rows), rows)


def _codes(op: BodyBuilder, heads: Heads, rows: ir.Value, projection: ir.Value) -> ir.Value:
    """[B, N, E] -> codes int64 [R, B, H, N]."""
    num_hash = op.reshape(op.attribute("num_hash"), 1)
    projected = op.MatMul(heads.split(rows), projection)  # B, H, N, R*T
    bits = op.Cast(op.Greater(projected, op.CastLike(0.0, projected)), to=FLOAT32)
    bits = op.reshape(bits, heads.batch, heads.num_heads, heads.length, num_hash, -1)
    powers = op.Pow(2.0, op.Cast(op.Range(0, op.attribute("hash_code_len"), 1), to=FLOAT32))
    code = op.Cast(op.ReduceSum(op.Mul(bits, powers), [4], keepdims=0), to=INT64)
    return op.Transpose(code, perm=[3, 0, 1, 2])


def columns_are_hashes(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    wanted = attributes["num_hash"] * attributes["hash_code_len"]
    if sizes["R*T"] != wanted:
        raise ShapeError("the projection has one column a bit of every hash", got=sizes["R*T"], expected=wanted)


def projection_is_by_head(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    if sizes["D"] * sizes["H"] != sizes["E"]:
        raise ShapeError(
            "the projection has one row a number of a head", got=sizes["D"], expected=sizes["E"] // sizes["H"]
        )


OP = Op(
    name="LshCumulation",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("value", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
        Port("projection", ("H", "D", "R*T")),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("num_hash", int, 1, dim="R"),
        Attribute("hash_code_len", int, 1, dim="T", maximum=16),
    ),
    reference=reference,
    body=body,
    rules=(heads_divide_width, columns_are_hashes, projection_is_by_head),
)
