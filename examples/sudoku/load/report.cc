#include "load/report.h"

#include <array>
#include <cstdio>

namespace sudoku {
namespace {

struct Percentile {
  const char* name;
  double percent;
};
constexpr std::array<Percentile, 4> kPercentiles{
    {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}}};

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string millis(std::uint64_t micros) { return fixed(static_cast<double>(micros) / 1000, 3); }

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

double rateOf(const LoadSummary& summary) {
  const double took = seconds(summary.took);
  return took > 0 ? static_cast<double>(summary.sent) / took : 0;
}

std::string textOf(const Target& target) {
  return (target.http ? "http://" : "tcp://") + target.address.text();
}

std::string field(std::string_view name, const std::string& value) {
  return jsonString(name) + ":" + value;
}

std::string targetsJson(const LoadPlan& plan) {
  std::string json = "[";
  for (const Target& target : plan.targets) {
    json += (json.size() > 1 ? "," : "") + jsonString(textOf(target));
  }
  return json + "]";
}

std::string failuresJson(const LoadSummary& summary) {
  std::string json = "{";
  for (std::size_t i = 1; i < kOutcomeNames.size(); ++i) {
    json += (i > 1 ? "," : "") + field(kOutcomeNames[i], std::to_string(summary.outcomes[i]));
  }
  return json + "}";
}

std::string latencyJson(const Histogram& latency) {
  std::string json = "{";
  for (const Percentile& percentile : kPercentiles) {
    json += field(percentile.name, millis(latency.percentile(percentile.percent))) + ",";
  }
  json += field("max", millis(latency.max()));
  return json + "," + field("mean", fixed(latency.mean() / 1000, 3)) + "}";
}

std::string answeredByJson(const LoadSummary& summary) {
  std::string json = "{";
  for (const auto& [solver, count] : summary.answered_by) {
    json += (json.size() > 1 ? "," : "") + field(solver, std::to_string(count));
  }
  return json + "}";
}

}  // namespace

std::string reportText(const LoadPlan& plan, const LoadSummary& summary) {
  std::string text = std::to_string(summary.sent) + " requests in " +
                     fixed(seconds(summary.took), 1) + " s (" + fixed(rateOf(summary), 1) +
                     "/s of " + fixed(plan.rate, 1) +
                     "/s wanted): " + std::to_string(summary.ok()) + " ok, " +
                     std::to_string(summary.failed()) + " failed\nlatency since due, ms:";
  for (const Percentile& percentile : kPercentiles) {
    text.append(" ").append(percentile.name).append(" ");
    text.append(millis(summary.latency_us.percentile(percentile.percent))).append(",");
  }
  text += " max " + millis(summary.latency_us.max()) + "\n";
  for (std::size_t i = 1; i < kOutcomeNames.size(); ++i) {
    if (summary.outcomes[i] == 0) continue;
    text += "failed: " + std::string(kOutcomeNames[i]) + " " + std::to_string(summary.outcomes[i]) +
            "\n";
  }
  if (summary.retried > 0) {
    text += "sent again, as a kept connection had been closed: " + std::to_string(summary.retried) +
            "\n";
  }
  for (const auto& [solver, count] : summary.answered_by) {
    text += "answered by " + solver + ": " + std::to_string(count) + "\n";
  }
  return text;
}

std::string reportJson(const LoadPlan& plan, const LoadSummary& summary) {
  const auto lag = std::chrono::duration<double, std::milli>(summary.worst_lag).count();
  return "{\"format\":1," + field("targets", targetsJson(plan)) + "," +
         field("rate", fixed(plan.rate, 3)) + "," +
         field("duration_s", fixed(seconds(summary.took), 3)) + "," +
         field("achieved_rate", fixed(rateOf(summary), 3)) + "," +
         field("sent", std::to_string(summary.sent)) + "," +
         field("ok", std::to_string(summary.ok())) + "," +
         field("failed", std::to_string(summary.failed())) + "," +
         field("failures", failuresJson(summary)) + "," +
         field("retried", std::to_string(summary.retried)) + "," +
         field("latency_ms", latencyJson(summary.latency_us)) + "," +
         field("generator_lag_ms", fixed(lag, 3)) + "," +
         field("answered_by", answeredByJson(summary)) + "}\n";
}

}  // namespace sudoku
