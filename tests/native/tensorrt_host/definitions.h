// The definition of every op in double, at one size, and inputs for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace playing {

constexpr int64_t kBatch = 2, kTokens = 150, kWidth = 96, kHeads = 3, kHeadSize = 32, kWindow = 9;
constexpr int64_t kTaps = 5, kBits = 9, kHashes = 5, kCodeLength = 4;
constexpr float kScale = 0.4F;
constexpr int64_t kLandmarks = 10;

using Numbers = std::vector<float>;

Numbers random_numbers(std::size_t count, unsigned seed, float spread);
std::vector<double> doubles(const Numbers& numbers);
// Numbers whose products and sums are exact: halves. No sign of a projection is in doubt then.
Numbers halves(Numbers numbers);
// Left padding in one row, right padding in the other; globals at scattered places.
std::vector<int32_t> token_mask();

// Longformer's attention of the rows of one kind: local tokens over their window and the globals (`banded`), or
// globals over all; rows of other tokens are zero.
std::vector<double> definition(const std::vector<double>& query, const std::vector<double>& key,
                               const std::vector<double>& value, const std::vector<int32_t>& mask, bool banded);
// Values weighted by the T-th power of 1 - acos(cosine) / pi, each row of a head divided by its norm; padding is zero.
std::vector<double> collisions(const std::vector<double>& query, const std::vector<double>& key,
                               const std::vector<double>& value, const std::vector<int32_t>& mask);
// Softmax over all tokens, and a convolution of the values; every row.
std::vector<double> full(const std::vector<double>& query, const std::vector<double>& key,
                         const std::vector<double>& value, const std::vector<int32_t>& mask, const Numbers& taps);
std::vector<double> nystrom_definition(const Numbers& query, const Numbers& key, const Numbers& value,
                                       const std::vector<int32_t>& mask, const Numbers& taps);
// rows W^T + bias; no bias where it is empty.
std::vector<double> projected(const Numbers& rows, const Numbers& weight, const Numbers& bias);
// Values of all keys that have the row's code, hash by hash, divided by their norm.
std::vector<double> sampled_attention(const Numbers& query, const Numbers& key, const Numbers& value,
                                      const Numbers& projection, const std::vector<int32_t>& mask);

}  // namespace playing
