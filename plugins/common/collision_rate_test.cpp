// Both series of the collision rate against acos in double: 2 million numbers of [0, 1] evenly, small ones and every
// one near 1; rates and their powers as the kernels make them from the short one, below 0 too.
#include "common/collision_rate.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/kernel_test.h"

namespace {

using lat::test::demand;

const double kPi = std::acos(-1.0);

float float_of(uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

// acos(a) / pi for 0 <= a <= 1, good to double near 1 too.
double angle(double a) { return 2 * std::asin(std::sqrt((1 - a) / 2)) / kPi; }

// As rate_of in cuda_collision_rate.cuh.
float short_rate(float s) {
  constexpr lat::ShortCollisionSeries kSeries = lat::short_collision_series();
  const float rest = std::fmin(std::fmax(std::fma(-std::fabs(s), 1.0f, 1.0f), 0.0f), 1.0f);
  float series = kSeries.term[lat::kShortCollisionSeries - 1];
  for (int at = lat::kShortCollisionSeries - 2; at >= 0; --at) series = std::fma(series, rest, kSeries.term[at]);
  const float above = std::fma(-std::sqrt(rest), series, 0.5f);
  return 0.5f + (std::signbit(s) ? -above : above);
}

void check_series(float a) {
  if (a == 1.0f) return;
  const double exact = angle(static_cast<double>(a)), root = std::sqrt(1.0 - static_cast<double>(a));
  const double series = root * static_cast<double>(lat::collision_series(a));
  demand(std::fabs(series - exact) <= 2.5e-7 * exact, "the long series");
}

void check_short(float s) {
  const double exact = s < 0 ? angle(-static_cast<double>(s)) : 1 - angle(static_cast<double>(s));
  const double rate = static_cast<double>(short_rate(s));
  // 5.7e-6 of the angle or of the rate, and what a sum near a half rounds.
  demand(std::fabs(rate - exact) <= 5.9e-6 * std::fmin(exact, 1 - exact) + 1.2e-7, "the short series");
  // Weights at which rounding to float16 is off by up to 4.9e-4.
  if (s < -0.9f) return;
  demand(std::fabs(std::pow(rate, 16) - std::pow(exact, 16)) <= 1.4e-4 * std::pow(exact, 16), "the 16th power");
}

}  // namespace

int main() {
  const auto check = [](float a) {
    check_series(a);
    check_short(a);
    check_short(-a);
  };
  constexpr int kSteps = 1 << 21;
  for (int step = 0; step <= kSteps; ++step) check(static_cast<float>(step) / static_cast<float>(kSteps));
  for (int exponent = -149; exponent < 0; ++exponent) check(std::ldexp(1.0f, exponent));
  for (uint32_t bits = 0x3f7fe000; bits <= 0x3f800000; ++bits) check(float_of(bits));
  demand(short_rate(1.0f) == 1.0f && short_rate(-1.0f) == 0.0f, "the ends");
  demand(short_rate(1.0000002f) == 1.0f && short_rate(-1.0000002f) == 0.0f, "beyond the ends");
  demand(std::fabs(short_rate(0.0f) - 0.5f) < 4e-6f && std::fabs(short_rate(-0.0f) - 0.5f) < 4e-6f, "the middle");
  std::puts("collision rate: both series are right");
}
