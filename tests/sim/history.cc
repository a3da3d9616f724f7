#include "history.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"

namespace cctl::sim {
namespace {

const char* nameOf(OpKind kind) {
  return kind == OpKind::kRead ? "read" : kind == OpKind::kCas ? "cas" : "write";
}
const char* nameOf(OpStatus status) {
  return status == OpStatus::kOk ? "ok" : status == OpStatus::kFail ? "fail" : "info";
}

OpKind kindFrom(const std::string& name) {
  for (const OpKind kind : {OpKind::kRead, OpKind::kCas, OpKind::kWrite})
    if (name == nameOf(kind)) return kind;
  throw std::invalid_argument("op \"" + name + "\" is not known");
}
OpStatus statusFrom(const std::string& name) {
  for (const OpStatus status : {OpStatus::kOk, OpStatus::kFail, OpStatus::kInfo})
    if (name == nameOf(status)) return status;
  throw std::invalid_argument("status \"" + name + "\" is not known");
}

HistoryOp opFrom(const Json& json) {
  HistoryOp op;
  op.client = json.at("client");
  op.kind = kindFrom(json.at("op"));
  op.key = json.at("key");
  op.status = statusFrom(json.at("status"));
  op.call = json.at("call_ns");
  if (op.status != OpStatus::kInfo) op.ret = json.at("return_ns");
  const Json args = json.value("args", Json::object());
  if (op.kind == OpKind::kCas) op.expected = args.at("expected");
  if (op.kind != OpKind::kRead) op.value = dumpJson(args.at("value"));
  const Json result = json.value("result", Json());
  if (!result.is_null()) op.result = Versioned{result.at("revision"), dumpJson(result.at("value"))};
  if (op.kind == OpKind::kRead && op.status == OpStatus::kOk && !op.result)
    throw std::invalid_argument("a read that is ok has a result");
  return op;
}

}  // namespace

std::string encodeOp(const HistoryOp& op) {
  Json args = Json::object();
  if (op.kind == OpKind::kCas) args["expected"] = op.expected;
  if (op.kind != OpKind::kRead) args["value"] = Json::parse(op.value);
  Json json{{"client", op.client},
            {"op", nameOf(op.kind)},
            {"key", op.key},
            {"args", args},
            {"result", Json()},
            {"call_ns", op.call},
            {"return_ns", Json(op.ret)},
            {"status", nameOf(op.status)}};
  if (op.status == OpStatus::kInfo) json["return_ns"] = Json();
  if (op.result)
    json["result"] = {{"revision", op.result->revision}, {"value", Json::parse(op.result->value)}};
  return dumpJson(json);
}

Result<HistoryOp> decodeOp(const std::string& line) {
  CCTL_TRY(const Json json, parseJson(line));
  try {
    return opFrom(json);
  } catch (const std::exception& error) {
    return fail(Code::kBadInput, "{}", error.what());
  }
}

Result<std::vector<HistoryOp>> readHistory(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(Code::kNotFound, "{}: cannot be read", path);
  std::vector<HistoryOp> ops;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    auto op = decodeOp(line);
    if (!op) return fail(op.error().context(fmt::format("{}:{}", path, number)));
    ops.push_back(std::move(*op));
  }
  return ops;
}

Result<void> writeHistory(const std::string& path, const std::vector<HistoryOp>& ops) {
  std::string text;
  for (const HistoryOp& op : ops) text += encodeOp(op) + "\n";
  return replaceFile(path, text);
}

}  // namespace cctl::sim
