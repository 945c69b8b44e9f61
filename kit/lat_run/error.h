// What ends the program, and with which exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace lat_run {

enum ExitCode { kPassed = 0, kFailed = 1, kBadInput = 2, kMissing = 3 };

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, ExitCode code = kBadInput) : std::runtime_error(what), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace lat_run
