// The C ABI as this program uses it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "error.h"
#include "lat_runner.h"
#include "subject.h"

namespace lat_edge {

// What a call did not give, in the words of lat-export's errors.
class Refused : public lat_run::Error {
 public:
  explicit Refused(const lat_error& error);
  // {"error": {"what", "got", "expected", "hint"}}.
  std::string json() const;
  int exit_code() const { return error_.status; }

 private:
  lat_error error_;
};

// Throws a `Refused` unless all is well.
void demand(lat_status status, const lat_error& error);

class Client {
 public:
  Client(const std::string& folder, const lat_options& options);

  lat_facts facts() const;
  std::vector<lat_port> inputs() const;
  std::vector<lat_port> outputs() const;
  std::string answer(const std::string& request) const;
  std::string encoding(const std::string& request) const;
  // To be compared with golden tensors; it must not outlive the client.
  std::unique_ptr<lat_run::Subject> subject() const;
  const lat_runner* get() const { return runner_.get(); }

 private:
  using Call = lat_status (*)(const lat_runner*, const char*, char**, lat_error*);
  std::string told(Call call, const std::string& request) const;

  struct Destroy {
    void operator()(lat_runner* runner) const { lat_runner_destroy(runner); }
  };
  std::unique_ptr<lat_runner, Destroy> runner_;
};

std::string folder_of_this_program();

int print_facts(const Client& client);

}  // namespace lat_edge
