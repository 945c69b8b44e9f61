#include "op_cases.h"

#include <cmath>

#include "banded_window_attention/kernel.h"
#include "bernoulli_expectation/kernel.h"
#include "full_attention/kernel.h"
#include "global_token_attention/kernel.h"
#include "lsh_cumulation/kernel.h"
#include "nystrom_attention/kernel.h"

namespace playing {
namespace {

int32_t dtype_of(DataType type) {
  return type == DataType::kFLOAT ? LAT_FLOAT32 : type == DataType::kHALF ? LAT_FLOAT16 : LAT_BFLOAT16;
}

OpCase banded_window_attention() {
  const auto good = [] { return Fields().add("num_heads", 3).add("window", int64_t{5}); };
  const auto whole = [good] { return good().add("scale", 0.125F); };
  OpCase op{"BandedWindowAttention", "banded_window_attention", whole().add("allow_tf32", 1), {}, {}, {}, {}};
  op.inputs = {{"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}};
  op.field_names = {{"num_heads", PluginFieldType::kINT32},
                    {"window", PluginFieldType::kINT32},
                    {"scale", PluginFieldType::kFLOAT32},
                    {"allow_tf32", PluginFieldType::kINT32}};
  // As a graph or an engine from before it has them: 0.
  op.fields_by_default = whole();
  op.written_by_default = "num_heads=3,window=5,scale=0.125,allow_tf32=0";
  op.bad_fields = {
      {Fields(), {"num_heads", "missing"}},
      {good(), {"scale", "missing"}},
      {good().add("scale", 0.125F).add("scale", 0.125F), {"scale", "twice"}},
      {good().add("scale", 0.125F).add("dropout", 0.1F), {"dropout", "expected num_heads, window, scale, allow_tf32"}},
      {whole().add("allow_tf32", 2), {"allow_tf32", "got 2", "0 to 1"}},
      {whole().add("allow_tf32", -1), {"allow_tf32", "got -1", "0 to 1"}},
      {whole().add("allow_tf32", int64_t{1} << 32), {"allow_tf32", "got 4294967296", "0 to 1"}},
      {whole().add("allow_tf32", 1.0F), {"allow_tf32", "float32", "int32 or int64"}},
      {whole().add("allow_tf32", 1).add("allow_tf32", 1), {"allow_tf32", "twice"}},
      {good().add("scale", 0.125F).add(nullptr, 0.1F), {"without a name"}},
      {good().add("scale", 0.0F), {"scale", "got 0", "> 0"}},
      {good().add("scale", -1.0F), {"scale", "got -1"}},
      {good().add("scale", NAN), {"scale", "got nan"}},
      {good().add("scale", 1e300), {"scale", "inf"}},
      {good().add("scale", 1), {"scale", "1 x int32", "float32 or float64"}},
      {good().add("scale", "0.125"), {"scale", "6 x char"}},
      {good().add_null("scale", PluginFieldType::kFLOAT32), {"scale", "without data"}},
      {Fields().add("num_heads", 3).add("window", 0).add("scale", 1.0F), {"window", "got 0", "1 to 2147483647"}},
      {Fields().add("num_heads", 3).add("window", int64_t{1} << 31).add("scale", 1.0F), {"window", "2147483648"}},
      {Fields().add("num_heads", 3).add("window", 5.0F).add("scale", 1.0F), {"window", "float32", "int32 or int64"}},
      {Fields().add("num_heads", -3).add("window", 5).add("scale", 1.0F), {"num_heads", "got -3"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    lat_banded_window_attention_args args;
    std::memcpy(&args, bytes, sizeof args);
    EXPECT(args.batch == 2 && args.tokens == 37 && args.width == 96);
    EXPECT(args.num_heads == 3 && args.window == 5 && args.scale == 0.125F && args.dtype == dtype_of(type));
    EXPECT(args.allow_tf32 == 1);
    EXPECT(args.query.data == inputs[0] && args.key.data == inputs[1] && args.value.data == inputs[2]);
    EXPECT(args.attention_mask == inputs[3] && args.output.data == output);
    for (const lat_rows& rows : {args.query, args.key, args.value, args.output})
      EXPECT(rows.batch_stride == 37 * 96 && rows.row_stride == 96);
  };
  return op;
}

OpCase global_token_attention() {
  const auto good = [] { return Fields().add("num_heads", 3); };
  OpCase op{"GlobalTokenAttention", "global_token_attention", good().add("scale", 0.25), {}, {}, {}, {}};
  op.inputs = {{"hidden_states", "BNE"}, {"attention_mask", "BN", true}, {"query_weight", "EE"}, {"query_bias", "E"},
               {"key_weight", "EE"},     {"value_weight", "EE"},         {"value_bias", "E"}};
  op.field_names = {{"num_heads", PluginFieldType::kINT32}, {"scale", PluginFieldType::kFLOAT32}};
  const int32_t two[] = {3, 3};
  op.bad_fields = {
      {good(), {"scale", "missing"}},
      {Fields().add("num_heads", PluginFieldType::kINT32, two, sizeof two, 2).add("scale", 1.0F), {"2 x int32"}},
      {good().add("window", 5).add("scale", 1.0F), {"window", "expected num_heads, scale"}},
      {good().add("num_heads", 3).add("scale", 1.0F), {"num_heads", "twice"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    lat_global_token_attention_args args;
    std::memcpy(&args, bytes, sizeof args);
    EXPECT(args.batch == 2 && args.tokens == 37 && args.width == 96);
    EXPECT(args.num_heads == 3 && args.scale == 0.25F && args.dtype == dtype_of(type) && args.form == LAT_BY_COST);
    EXPECT(args.hidden_states.data == inputs[0] && args.attention_mask == inputs[1] && args.output.data == output);
    EXPECT(args.query_weight == inputs[2] && args.query_bias == inputs[3] && args.key_weight == inputs[4]);
    EXPECT(args.value_weight == inputs[5] && args.value_bias == inputs[6]);
    for (const lat_rows& rows : {args.hidden_states, args.output})
      EXPECT(rows.batch_stride == 37 * 96 && rows.row_stride == 96);
  };
  return op;
}

// Query, key, value and mask, and what the kernels' arguments have of them.
const std::vector<Input> kAttentionInputs = {
    {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}};

template <class Args>
Args attention_args(const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
  Args args;
  std::memcpy(&args, bytes, sizeof args);
  EXPECT(args.batch == 2 && args.tokens == 37 && args.width == 96);
  EXPECT(args.num_heads == 3 && args.dtype == dtype_of(type));
  EXPECT(args.query.data == inputs[0] && args.key.data == inputs[1] && args.value.data == inputs[2]);
  EXPECT(args.attention_mask == inputs[3] && args.output.data == output);
  for (const lat_rows& rows : {args.query, args.key, args.value, args.output})
    EXPECT(rows.batch_stride == 37 * 96 && rows.row_stride == 96);
  return args;
}

OpCase bernoulli_expectation() {
  const auto good = [] { return Fields().add("num_heads", 3); };
  OpCase op{"BernoulliExpectation", "bernoulli_expectation", good().add("hash_code_len", 9), {}, {}, {}, {}};
  op.inputs = kAttentionInputs;
  op.field_names = {{"num_heads", PluginFieldType::kINT32}, {"hash_code_len", PluginFieldType::kINT32}};
  op.bad_fields = {
      {good(), {"hash_code_len", "missing"}},
      {good().add("hash_code_len", 0), {"hash_code_len", "got 0", "1 to 2147483647"}},
      {good().add("hash_code_len", 9.0F), {"hash_code_len", "float32", "int32 or int64"}},
      {good().add("hash_code_len", 9).add("scale", 1.0F), {"scale", "expected num_heads, hash_code_len"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    EXPECT(attention_args<lat_bernoulli_expectation_args>(bytes, type, inputs, output).hash_code_len == 9);
  };
  return op;
}

OpCase full_attention() {
  OpCase op{"FullAttention", "full_attention", Fields().add("num_heads", 3), {}, {}, {}, {}};
  op.inputs = kAttentionInputs;
  op.inputs.push_back({"conv_weight", "HK"});
  op.field_names = {{"num_heads", PluginFieldType::kINT32}};
  op.bad_fields = {
      {Fields(), {"num_heads", "missing"}},
      {Fields().add("scale", 0.125F), {"scale", "expected num_heads"}},
      {Fields().add("num_heads", int64_t{1} << 31), {"num_heads", "2147483648"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    const auto args = attention_args<lat_full_attention_args>(bytes, type, inputs, output);
    EXPECT(args.taps == 5 && args.conv_weight == inputs[4]);
  };
  return op;
}

OpCase lsh_cumulation() {
  const auto good = [] { return Fields().add("num_heads", 3).add("num_hash", 5); };
  OpCase op{"LshCumulation", "lsh_cumulation", good().add("hash_code_len", int64_t{4}), {}, {}, {}, {}};
  op.inputs = kAttentionInputs;
  op.inputs.push_back({"projection", "hdp"});
  op.odd_width = {"input projection", "E/H=97/3"};
  op.field_names = {{"num_heads", PluginFieldType::kINT32},
                    {"num_hash", PluginFieldType::kINT32},
                    {"hash_code_len", PluginFieldType::kINT32}};
  op.bad_fields = {
      {good(), {"hash_code_len", "missing"}},
      {good().add("hash_code_len", 17), {"hash_code_len", "got 17", "1 to 16"}},
      {good().add("hash_code_len", 4).add("num_hash", 5), {"num_hash", "twice"}},
      {Fields().add("num_heads", 3).add("num_hash", 0).add("hash_code_len", 4), {"num_hash", "got 0"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    const auto args = attention_args<lat_lsh_cumulation_args>(bytes, type, inputs, output);
    EXPECT(args.num_hash == 5 && args.hash_code_len == 4 && args.projection == inputs[4]);
  };
  return op;
}

OpCase nystrom_attention() {
  const auto good = [] { return Fields().add("num_heads", 3).add("num_landmarks", 1); };
  OpCase op{"NystromAttention", "nystrom_attention", good().add("per_head_init", 1), {}, {}, {}, {}};
  op.inputs = kAttentionInputs;
  op.inputs.push_back({"conv_weight", "HK"});
  op.field_names = {{"num_heads", PluginFieldType::kINT32},
                    {"num_landmarks", PluginFieldType::kINT32},
                    {"per_head_init", PluginFieldType::kINT32}};
  op.bad_fields = {
      {good(), {"per_head_init", "missing"}},
      {good().add("per_head_init", 2), {"per_head_init", "got 2", "0 to 1"}},
      {Fields().add("num_heads", 3).add("num_landmarks", 0).add("per_head_init", 0), {"num_landmarks", "got 0"}},
      {good().add("per_head_init", 0).add("scale", 1.0F),
       {"scale", "expected num_heads, num_landmarks, per_head_init"}},
  };
  op.check_args = [](const unsigned char* bytes, DataType type, const std::vector<const void*>& inputs, void* output) {
    const auto args = attention_args<lat_nystrom_attention_args>(bytes, type, inputs, output);
    EXPECT(args.num_landmarks == 1 && args.per_head_init == 1 && args.taps == 5 && args.conv_weight == inputs[4]);
  };
  return op;
}

}  // namespace

std::vector<OpCase> op_cases() {
  return {banded_window_attention(), global_token_attention(), bernoulli_expectation(),
          full_attention(),          lsh_cumulation(),         nystrom_attention()};
}

}  // namespace playing
