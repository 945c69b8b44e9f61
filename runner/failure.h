// What a call ends with where it does not succeed: a status and four texts, which the C ABI hands out.
#pragma once

#include <stdexcept>
#include <string>

#include "lat_runner.h"

namespace lat_edge {

struct Facts {
  std::string got, expected, hint;
};

class Failure : public std::runtime_error {
 public:
  Failure(lat_status status, const std::string& what, Facts facts = {})
      : std::runtime_error(what), status(status), facts(std::move(facts)) {}

  lat_status status;
  Facts facts;
};

inline Failure bad_input(const std::string& what, Facts facts = {}) {
  return Failure(LAT_BAD_INPUT, what, std::move(facts));
}

}  // namespace lat_edge
