// An output against what PyTorch computed, by the bar that lat-export wrote down for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "array.h"

namespace lat_run {

// By what one output of one case is judged. All of it is lat-export's decision (its table of tolerances, and the rules
// of its validation); this program only measures.
struct Bar {
  double relative_l2 = 0;  // the largest |out - ref| / |ref| that passes
  double least_norm = 0;   // |ref| counts as at least this: outputs of a few numbers can cancel to almost nothing
  std::vector<DType> dtypes;
  Shape shape;                           // of the whole output
  std::optional<std::size_t> rows_axis;  // the golden keeps only some indices of this axis
  // Engines have as many columns of global tokens as they were built for. Those that the batch does not have begin at
  // this column, must be zero, and are not compared.
  std::optional<std::int64_t> first_empty_column;
  std::string remark;
};

struct Verdict {
  bool passed = false;
  double relative_l2 = 0;  // infinite where nothing can be compared
  double max_abs = 0;
  std::string remark;  // what forbids a comparison, if anything does
};

// `rows`: the indices that the golden keeps, where `bar.rows_axis` says that it keeps only some.
Verdict judged(const Array& output, const Array& reference, const std::vector<std::int64_t>& rows, const Bar& bar);

// Of an output that is not there.
Verdict not_compared(const std::string& why);

}  // namespace lat_run
