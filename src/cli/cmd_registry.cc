// registry status|show|members|recover, sync
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/registry_text.h"
#include "cli/report.h"
#include "model/node_set.h"
#include "ops/registry_care.h"
#include "ops/sync.h"

namespace cctl::cli {
namespace {

using registry::Member;
using registry::Membership;

std::vector<std::string> hostsOf(const std::vector<Member>& members) {
  std::vector<std::string> hosts;
  for (const Member& member : members) hosts.push_back(member.host);
  return hosts;
}

// What to write into cluster.yaml, when it says something else.
void tellInventory(Context& context, const Inventory& inventory, const Membership& membership) {
  std::vector<std::string> named, hosts = hostsOf(membership.now.members);
  for (const HostName& host : inventory.registry_hosts) named.push_back(host.str());
  std::vector<std::string> a = named, b = hosts;
  std::sort(a.begin(), a.end()), std::sort(b.begin(), b.end());
  if (a == b) return;
  std::string list;
  for (const std::string& host : hosts) list += (list.empty() ? "" : ", ") + host;
  context.progress().warning(
      "", fmt::format("write this into {}/cluster.yaml, else other commands are refused:\n"
                      "  registry: {{hosts: [{}]}}",
                      inventory.directory, list));
}

// ---- status ------------------------------------------------------------------------------------

int exitOf(const ops::RegistryReport& report) {
  if (report.membership && !report.quorum) return kExitNoQuorum;
  int code = kExitOk;
  for (const ops::MemberReport& member : report.members) {
    if (member.state == ops::MemberState::kOtherDisk ||
        member.state == ops::MemberState::kNotServing ||
        member.state == ops::MemberState::kCannotWrite)
      return kExitFailed;
    if (member.state == ops::MemberState::kUnreachable) code = kExitUnreachable;
  }
  return code;
}

std::string reportText(Context& context, const ops::RegistryReport& report) {
  if (!report.membership) return quorumText(report);
  Table table({"MEMBER", "STATE", "EPOCH", "REGISTERS", "UNCOMMITTED", "ACCEPTOR"});
  std::string problems;
  for (const ops::MemberReport& member : report.members) {
    const bool answers = member.state != ops::MemberState::kUnreachable;
    const std::string role = member.role == "member" ? "" : " (" + member.role + ")";
    table.add(
        {member.member.host + role, ops::memberStateName(member.state),
         answers ? member.epoch.text() : "-", answers ? std::to_string(member.registers) : "-",
         answers ? std::to_string(member.uncommitted) : "-", member.member.acceptor},
        member.state == ops::MemberState::kOk ? Style::kPlain : Style::kBad);
    if (!member.why.empty()) problems += printable(about(member.member.host, member.why)) + "\n";
  }
  return table.text(context.painter()) + problems + quorumText(report);
}

Result<int> runStatus(Context& context) {
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  CCTL_TRY(const ops::RegistryReport report, ops::examineRegistry(*registers));
  Json json = registryJson(report);
  json["format"] = 1;
  context.printEither(json, reportText(context, report));
  if (report.membership) tellInventory(context, **context.inventory(), *report.membership);
  return exitOf(report);
}

// ---- show --------------------------------------------------------------------------------------

Result<int> showAll(Context& context, registry::QuorumRegisters& registers) {
  CCTL_TRY(const std::vector<std::string> keys, registers.list(""));
  Json json = {{"format", 1}, {"keys", keys}};
  std::string text;
  for (const std::string& key : keys) text += printable(key) + "\n";
  context.printEither(json, text);
  return kExitOk;
}

Result<int> runShow(Context& context, const std::string& key) {
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  if (key.empty()) return showAll(context, *registers);
  CCTL_TRY(const protocol::RegisterValue value, registers->read(key));
  if (value.revision == 0)
    return fail(Code::kNotFound, "{}: was never written; 'clusterctl registry show' lists all",
                key);
  CCTL_TRY(const Json held, parseJson(value.value.text));
  const Json json = {{"format", 1}, {"key", key}, {"revision", value.revision}, {"value", held}};
  context.printEither(json,
                      fmt::format("{} revision {}{}\n{}\n", printable(key), value.revision,
                                  value.value.isNull() ? ", deleted" : "", dumpJsonPretty(held)));
  return kExitOk;
}

Run defineShow(CLI::App& app) {
  auto key = std::make_shared<std::string>();
  app.add_option("KEY", *key, "Register, e.g. endpoints/web; left out: the names of all");
  return [key](Context& context) { return runShow(context, *key); };
}

// ---- members -----------------------------------------------------------------------------------

Result<std::vector<std::string>> expandHosts(const Inventory& inventory,
                                             const std::vector<std::string>& texts, bool known) {
  std::vector<std::string> hosts;
  for (const std::string& text : texts) {
    CCTL_TRY(const std::vector<std::string> names, expandNodeSet(text));
    for (const std::string& name : names) {
      if (known && inventory.findHost(HostName(name)) == nullptr)
        return fail(Code::kUsage, "{}: no such host in this inventory", name);
      hosts.push_back(name);
    }
  }
  return hosts;
}

Json membersJson(const Membership& membership) {
  return {{"format", 1},
          {"epoch", membership.epoch.text()},
          {"members", hostsOf(membership.now.members)}};
}

// `what` in words: "add host4 to the registry".
Result<int> changeMembers(Context& context, const ops::MembersWish& wish, const std::string& what) {
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  if (context.globals().dry_run) {
    CCTL_TRY(const std::vector<std::string> after, ops::planMembers(*registers, wish));
    context.printEither({{"format", 1}, {"dry_run", true}, {"members", after}},
                        fmt::format("registry: would have {}: {}; dry run, nothing was changed\n",
                                    counted(after.size(), "member"), foldNodeSet(after)));
    return kExitOk;
  }
  if (!wish.remove.empty()) CCTL_CHECK(context.confirm(fmt::format("About to {}. Go on?", what)));
  std::vector<HostName> fresh;
  for (const std::string& host : wish.add) fresh.push_back(HostName(host));
  fleet->begin(fresh, ops::Need::kPlaced);
  context.progress().phase("changing the members of the registry");
  ops::MembersWish sure = wish;
  sure.discard = context.globals().yes;
  CCTL_TRY(const Membership after, ops::changeMembers(*registers, sure));
  const std::vector<std::string> hosts = hostsOf(after.now.members);
  context.printEither(membersJson(after),
                      fmt::format("registry: {}: {}; epoch {}\n", counted(hosts.size(), "member"),
                                  foldNodeSet(hosts), after.epoch.text()));
  tellInventory(context, fleet->inventory(), after);
  return kExitOk;
}

Run defineAdd(CLI::App& app) {
  auto texts = std::make_shared<std::vector<std::string>>();
  app.add_option("HOSTS", *texts, "Hosts of the inventory")->required();
  return [texts](Context& context) -> Result<int> {
    CCTL_TRY(const Inventory* inventory, context.inventory());
    ops::MembersWish wish;
    CCTL_TRY(wish.add, expandHosts(*inventory, *texts, true));
    return changeMembers(context, wish,
                         fmt::format("add {} to the registry", foldNodeSet(wish.add)));
  };
}

Run defineRemove(CLI::App& app) {
  auto texts = std::make_shared<std::vector<std::string>>();
  app.add_option("HOSTS", *texts, "Members")->required();
  return [texts](Context& context) -> Result<int> {
    CCTL_TRY(const Inventory* inventory, context.inventory());
    ops::MembersWish wish;
    CCTL_TRY(wish.remove, expandHosts(*inventory, *texts, false));
    return changeMembers(context, wish,
                         fmt::format("remove {} from the registry", foldNodeSet(wish.remove)));
  };
}

Run defineReplace(CLI::App& app) {
  auto old = std::make_shared<std::string>();
  auto fresh = std::make_shared<std::string>();
  app.add_option("HOST", *old, "Member that is lost, or has lost its state")->required();
  app.add_option("BY", *fresh, "Host that takes its place; left out: the same host, admitted anew");
  return [old, fresh](Context& context) -> Result<int> {
    CCTL_TRY(const Inventory* inventory, context.inventory());
    ops::MembersWish wish;
    wish.remove = {*old};
    CCTL_TRY(wish.add, expandHosts(*inventory, {fresh->empty() ? *old : *fresh}, true));
    return changeMembers(context, wish,
                         fmt::format("replace {} by {} in the registry", *old,
                                     fresh->empty() ? "itself, admitted anew" : *fresh));
  };
}

// ---- recover -----------------------------------------------------------------------------------

Result<int> runRecover(Context& context, const std::vector<std::string>& texts) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<std::string> fresh, expandHosts(*inventory, texts, true));
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  std::vector<HostName> placed;
  for (const std::string& host : fresh) placed.push_back(HostName(host));
  if (!context.globals().dry_run) fleet->begin(placed, ops::Need::kPlaced);
  std::vector<std::string> hosts;
  for (const HostName& host : inventory->host_order) hosts.push_back(host.str());
  CCTL_TRY(const registry::Beginning beginning,
           ops::planRegistryRecovery(*registers, hosts, fresh));
  const std::vector<std::string> members = hostsOf(beginning.first.now.members);
  context.progress().warning(
      "", fmt::format("the registry goes on with what {} hold. Whatever only the lost members "
                      "knew is lost: the newest changes may be undone, and a write that was told "
                      "as done may be gone. The lost members can never come back as they are. "
                      "Are they merely cut off or switched off? Then bring one back instead",
                      foldNodeSet(hostsOf(beginning.council.now.members))));
  if (context.globals().dry_run) {
    context.printDryRun(fmt::format("go on as incarnation {} with {}",
                                    beginning.first.epoch.incarnation, foldNodeSet(members)));
    return kExitOk;
  }
  CCTL_CHECK(context.confirm("Recover the registry by force?"));
  CCTL_CHECK(registers->recover(beginning));
  CCTL_TRY(const auto after, registers->membership());
  context.printEither(membersJson(*after),
                      fmt::format("registry: recovered as incarnation {}, members {}\n",
                                  beginning.first.epoch.incarnation, foldNodeSet(members)));
  tellInventory(context, *inventory, *after);
  return kExitOk;
}

Run defineRecover(CLI::App& app) {
  auto fresh = std::make_shared<std::vector<std::string>>();
  app.add_option("--add", *fresh, "Hosts that become members too; they must hold nothing");
  return [fresh](Context& context) { return runRecover(context, *fresh); };
}

// ---- sync --------------------------------------------------------------------------------------

Json syncJson(const ops::SyncOutcome& outcome, bool dry_run) {
  Json behind = Json::object(), missed = Json::object(), settings = Json::object(),
       dependants = Json::array(), unfinished = Json::object(), taken_over = Json::array();
  for (const ServiceName& service : outcome.taken_over) taken_over.push_back(service.str());
  for (const auto& [service, what] : outcome.unfinished) unfinished[service.str()] = what;
  for (const auto& [host, what] : outcome.settings) settings[host.str()] = what;
  for (const InstanceId& id : outcome.dependants) dependants.push_back(id.text());
  for (const auto& [host, count] : outcome.behind) behind[host.str()] = count;
  for (const auto& [host, error] : outcome.missed) missed[host.str()] = error.message;
  return {{"format", 1},
          {"dry_run", dry_run},
          {"settled", outcome.settled},
          {"health", outcome.changed},
          {"reconciled", outcome.reconciled},
          {"behind", behind},
          {"taken_over", taken_over},
          {"unfinished", unfinished},
          {"settings", settings},
          {"dependants", dependants},
          {"missed", missed}};
}

std::string syncText(const ops::SyncOutcome& outcome, bool dry_run) {
  std::string text;
  if (outcome.settled > 0)
    text += fmt::format("{} that was half done {}\n", counted(outcome.settled, "write"),
                        dry_run ? "would be finished" : "finished");
  for (const ServiceName& service : outcome.taken_over)
    text += fmt::format("{}: the lock of an operation that did not end {}\n", service,
                        dry_run ? "would be taken over" : "was taken over");
  for (const auto& [service, what] : outcome.unfinished)
    text += fmt::format(
        "{0}: a roll-out of {1} was broken off and stands half-way; 'clusterctl plan {0}' shows "
        "what 'clusterctl apply {0}' would put back, or deploy it again to go on\n",
        service, what);
  for (const std::string& change : outcome.reconciled) text += change + "\n";
  for (const std::string& change : outcome.changed) text += change + "\n";
  for (const auto& [host, count] : outcome.behind)
    text += fmt::format("{}: {}, {} behind\n", host,
                        dry_run ? "would be brought up to date" : "brought up to date",
                        counted(count, "service"));
  for (const auto& [host, what] : outcome.settings)
    text += fmt::format("{}: {} {}\n", host, fmt::join(what, " and "),
                        dry_run ? "would be brought up to date" : "brought up to date");
  for (const InstanceId& id : outcome.dependants)
    text += fmt::format("{}: its config {} the endpoints of today\n", id,
                        dry_run ? "would follow" : "follows");
  return dry_run ? text + "sync: dry run, nothing was changed\n" : text;
}

// Quiet when there was nothing to do, so that cron sends no mail.
Result<int> runSync(Context& context) {
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  const bool dry_run = context.globals().dry_run;
  CCTL_TRY(const ops::SyncOutcome outcome, ops::syncAll(*operation, *registers, dry_run));
  context.printEither(syncJson(outcome, dry_run), syncText(outcome, dry_run));
  warnMissed(context, outcome.missed);
  return missedExitCode(outcome.missed);
}

}  // namespace

std::vector<Command> registryCommands() {
  const auto plain = [](Result<int> (*run)(Context&)) {
    return [run](CLI::App&) -> Run { return run; };
  };
  const std::vector<Command> members = {
      {"add", "Admit hosts to the quorum", "", defineAdd, {}},
      {"remove", "Take members out of the quorum", "", defineRemove, {}},
      {"replace",
       "Put another host, or the same with a new disk, in a member's place",
       "",
       defineReplace,
       {}}};
  return {
      {"registry",
       "The registry: its members, what it holds, its mending",
       "Watch",
       {},
       {{"status", "Its members, and whether they make a quorum", "", plain(runStatus), {}},
        {"show", "What it holds", "", defineShow, {}},
        {"members", "Who keeps it; change that", "", plain(runStatus), members},
        {"recover", "Go on after the loss of its quorum, at a risk", "", defineRecover, {}}}},
      {"sync",
       "Bring every host up to date; quiet when there is nothing to do",
       "Change",
       plain(runSync),
       {}},
  };
}

}  // namespace cctl::cli
