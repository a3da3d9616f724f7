// What src/release reads of signatures, keys and allowed_signers, and playbooks, fed with mutated
// ones.
//   fuzz_release TARGET [SECONDS [SEED]]
#include "base/base64.h"
#include "base/ssh_wire.h"
#include "model/load.h"
#include "model/playbook.h"
#include "release/allowed_signers.h"
#include "release/sign_off.h"
#include "runner.h"

namespace cctl::release {
namespace {

using fuzz::Corpus;
using fuzz::Mutator;
using fuzz::require;
using fuzz::Target;

// Made once by ssh-keygen, over "message\n" in the namespace clusterctl-release.
const std::string kMessage = "message\n";

constexpr const char* kKeys[] = {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILizGhgP8YMe4J/l22QzyrezJyphpHzWU6+lkAxx8Ner ed",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBA4gTBsTeBpMkyD"
    "duZdpegmRNLRzC6fRmzOohz9wkB+U7M8EiSdFYx6bs5CW4IMlFOQM/rylSJjehuswNncL9Q= ec",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCya4ge99bb/P5O5vxPhvlmjphGWRc2zozP0FNjrey1H+yeMWFs"
    "sHlFFNQ/dA0v/oVvzxxOy0mbieKYkWoyhv7KBYPcRjoJz7GysLnsqxLKam8/yvvQTAU8XnLKCsvmcpcABcZ3WeUQ"
    "TQ4tQiZ0+4vZg0PqIVYnp9PArLQ5fq2LFF1yyYgurw3XG+a8Tdf1SUZ9H7SL5F/pFbDrKznewlBFdsAICyPKo7yW"
    "NCmyQeRy7H8kKh4RQNaZ0DDEvn+LYVd3/BYcRJc6pY9Sk/jMlv0HFGKqJUrB8Jem0A8OGkiJCy+Zi0L+Ty0gxyix"
    "ofgR3OEzhVyfAP3QWPahtRuWWLH1 rsa",
    "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIGk"
    "0+76JJjyeC+GenItKCZNfjeLVzZlQwVx4AyhI/HdcAAAAILizGhgP8YMe4J/l22QzyrezJyphpHzWU6+lkAxx8Ne"
    "rAAAAAAAAAAAAAAABAAAAAmlkAAAADwAAAAVhbGljZQAAAAJxYQAAAAAAAAAA//////////8AAAAAAAAAggAAABV"
    "wZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQ"
    "tcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAA"
    "AMwAAAAtzc2gtZWQyNTUxOQAAACDg0l1MvCLJRzI+Tz5yTI5pUVmN6m1ofvmOEKaHiWrlXwAAAFMAAAALc3NoLWV"
    "kMjU1MTkAAABAn+DIJLTSworwvy4XSNCR4IzHODOnLJQLmxoajUlpztULK9D8Fxzg2/z0pQ2K8Vj2EpGRrfXRTgk"
    "8zuCq4KRTCQ== ed"};

constexpr const char* kSignatures[] = {
    "-----BEGIN SSH SIGNATURE-----\n"
    "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAguLMaGA/xgx7gn+XbZDPKt7MnKm\n"
    "GkfNZTr6WQDHHw16sAAAASY2x1c3RlcmN0bC1yZWxlYXNlAAAAAAAAAAZzaGE1MTIAAABT\n"
    "AAAAC3NzaC1lZDI1NTE5AAAAQDYkR81ALXz8mBOfFwx4NyjxMCIQRiN+IgtaU9y1KUruHy\n"
    "Ihg9UVm9GIs4CC2M699TShrV/NWU4f269IlUyO+QY=\n"
    "-----END SSH SIGNATURE-----\n",
    "-----BEGIN SSH SIGNATURE-----\n"
    "U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAE\n"
    "EEEDiBMGxN4GkyTIN25l2l6CZE0tHMLp9GbM6iHP3CQH5TszwSJJ0VjHpuzkJbggyUU5Az\n"
    "+vKVImN6G6zA2dwv1AAAABJjbHVzdGVyY3RsLXJlbGVhc2UAAAAAAAAABnNoYTUxMgAAAG\n"
    "QAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAEkAAAAhAMPrp+TQeVjXx168gMP5aUCApsgu\n"
    "OS/vwezY9f4MZKobAAAAICEnH9sGa4m2BVVqDGXXedP+Ide3DxwEtzjBrbN90lyi\n"
    "-----END SSH SIGNATURE-----\n",
    "-----BEGIN SSH SIGNATURE-----\n"
    "U1NIU0lHAAAAAQAAARcAAAAHc3NoLXJzYQAAAAMBAAEAAAEBALJriB731tv8/k7m/E+G+W\n"
    "aOmEZZFzbOjM/QU2Ot7LUf7J4xYWyweUUU1D90DS/+hW/PHE7LSZuJ4piRajKG/soFg9xG\n"
    "OgnPsbKwueyrEspqbz/K+9BMBTxecsoKy+ZylwAFxndZ5RBNDi1CJnT7i9mDQ+ohVien08\n"
    "CstDl+rYsUXXLJiC6vDdcb5rxN1/VJRn0ftIvkX+kVsOsrOd7CUEV2wAgLI8qjvJY0KbJB\n"
    "5HLsfyQqHhFA1pnQMMS+f4thV3f8FhxElzqlj1KT+MyW/QcUYqolSsHwl6bQDw4aSIkLL5\n"
    "mLQv5PLSDHKLGh+BHc4TOFXJ8A/dBY9qG1G5ZYsfUAAAASY2x1c3RlcmN0bC1yZWxlYXNl\n"
    "AAAAAAAAAAZzaGE1MTIAAAEUAAAADHJzYS1zaGEyLTUxMgAAAQA79dge9WmgtKp/9/i/jF\n"
    "rW7PfNLttQyYGrTJUwN0a/YgmWxZFa42DGIhQW73jZkc2265MOqrbobW2OiKLKcHk8fxZ2\n"
    "Tym+9VxQ39Y2vPeVgWDh7BTD6wWt1MbL9FBWTkpj+UCA2Fc1+KK8Cc0rVXTp+OT3/WM1jN\n"
    "f9hSIqLl4tqVnLBA+vCwRSul8wIzawsBLUoGKCneXL81NcOivgfhKduxmBVGcgQ+BEm6CT\n"
    "47S7JzxOMW05ehglwnKT/YcxDy70+HCqBr/213JTwR3kzET3XEvJd8yyEarQloCS+hrqm5\n"
    "vrgjr3gWIJ8l1LpNEm/33JgSKEhyxEQNI4h65LR7Fb\n"
    "-----END SSH SIGNATURE-----\n",
    "-----BEGIN SSH SIGNATURE-----\n"
    "U1NIU0lHAAAAAQAAAb0AAAAgc3NoLWVkMjU1MTktY2VydC12MDFAb3BlbnNzaC5jb20AAA\n"
    "AgaTT7vokmPJ4L4Z6ci0oJk1+N4tXNmVDBXHgDKEj8d1wAAAAguLMaGA/xgx7gn+XbZDPK\n"
    "t7MnKmGkfNZTr6WQDHHw16sAAAAAAAAAAAAAAAEAAAACaWQAAAAPAAAABWFsaWNlAAAAAn\n"
    "FhAAAAAAAAAAD//////////wAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAA\n"
    "AAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0LWZvcn\n"
    "dhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAA\n"
    "AAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIODSXUy8IslHMj5PPnJMjmlRWY3qbWh++Y4Qpo\n"
    "eJauVfAAAAUwAAAAtzc2gtZWQyNTUxOQAAAECf4MgktNLCivC/LhdI0JHgjMc4M6cslAub\n"
    "GhqNSWnO1Qsr0PwXHODb/PSlDYrxWPYSkZGt9dFOCTzO4KrgpFMJAAAAEmNsdXN0ZXJjdG\n"
    "wtcmVsZWFzZQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEA2JEfNQC18\n"
    "/JgTnxcMeDco8TAiEEYjfiILWlPctSlK7h8iIYPVFZvRiLOAgtjOvfU0oa1fzVlOH9uvSJ\n"
    "VMjvkG\n"
    "-----END SSH SIGNATURE-----\n"};

std::string blobOf(const std::string& armored) {
  std::string base64;
  for (size_t at = armored.find('\n') + 1; armored[at] != '-'; ++at)
    if (armored[at] != '\n') base64 += armored[at];
  return base64Decode(base64).value_or("");
}

std::string armor(const std::string& blob) {
  return "-----BEGIN SSH SIGNATURE-----\n" + base64Encode(blob) + "\n-----END SSH SIGNATURE-----\n";
}

std::string keyBlob(const std::string& line) {
  const size_t begin = line.find("AAAA");
  return base64Decode(std::string_view(line).substr(begin, line.find(' ', begin) - begin))
      .value_or("");
}

// Nothing but an unchanged signature may be good: whatever passes is over this message.
void judge(const std::string& text) {
  const auto signature = parseSshSignature(text);
  if (!signature) return;
  const bool good = verifySshSignature(*signature, kMessage, kSignatureNamespace).has_value();
  require(!good || !verifySshSignature(*signature, "another", kSignatureNamespace),
          "a signature is over one message");
  (void)signature->key.fingerprint();
}

Target armour() {
  return {Corpus(std::begin(kSignatures), std::end(kSignatures)),
          [](const std::string& input, Mutator&) { judge(input); }};
}

Target blob() {
  Corpus corpus;
  for (const char* signature : kSignatures) corpus.push_back(blobOf(signature));
  return {corpus, [](const std::string& input, Mutator&) { judge(armor(input)); }};
}

Target key() {
  Corpus corpus;
  for (const char* line : kKeys) corpus.push_back(keyBlob(line));
  return {corpus, [](const std::string& input, Mutator&) {
            const auto parsed = parseSshPublicKey(input);
            if (!parsed) return;
            require(parsed->blob == input, "a key is the bytes it was read from");
            require(parseSshPublicKey(parsed->plain_blob).has_value(), "plain keys are keys");
          }};
}

Target signers() {
  Corpus corpus = {std::string("# people\n") + "alice,qa " + kKeys[0] + "\n"};
  for (const char* line : kKeys) {
    corpus.push_back(std::string("\"a b\" cert-authority,namespaces=\"x,!y\" ") + line + "\n");
    corpus.push_back(std::string("*@x valid-after=\"20200101\",valid-before=\"20300101120000Z\" ") +
                     line);
  }
  return {corpus, [](const std::string& input, Mutator&) {
            Problems problems;
            const auto allowed = parseAllowedSigners(input, "f", problems);
            for (const Problem& problem : problems.sorted())
              require(problem.where.line > 0 && problem.where.column > 0, "problems have places");
            SignOff policy{true, "f", {"*a*", "qa"}, 2};
            std::vector<StoredSignature> stored;
            for (const char* signature : kSignatures) stored.push_back({"s", signature});
            const auto verdict = judgeSignatures(policy, &allowed, kMessage, stored,
                                                 WallTime(std::chrono::hours(24 * 365 * 55)));
            require(verdict.signers.size() <= std::size(kSignatures), "one signature, one person");
          }};
}

// Playbooks: read as values, never run.
Target playbook() {
  MemoryFiles files(
      {{"i/cluster.yaml", "cluster: c\nhosts: {'h[1-2]': }\n"},
       {"i/services/web.yaml",
        "service: web\nplace: {hosts: [h1]}\nrun: [bin/web]\nports: {main: auto}\n"}});
  const auto inventory = std::make_shared<Inventory>(*loadInventory(files, "i").inventory);
  return {{"play: x\nvars: {v: {required: true, help: h}, w: a}\nsteps:\n"
           "- name: a\n  deploy: {service: web, version: '{{v}}', force: true}\n"
           "  on_failure: [{rollback: {service: web}}]\n"
           "- each_host: all\n  steps: [{restart: {host: '{{host}}'}}]\n",
           "play: x\nsteps: [{wait: {http: 'http://[::1]:80/x', status: 200, timeout: 5s}},\n"
           "{check: {tcp: {service: web, port: main}}}, {check: {file: /a, on: 'h[1-2]'}},\n"
           "{exec: {hosts: '!h1', command: [a, 'b c']}, on_failure: continue}]\n"},
          [inventory](const std::string& input, Mutator&) {
            Problems problems;
            Node node;
            if (!parseYaml(input, "f", node, problems)) return;
            const auto variables = readPlayVariables(node, problems);
            PlayValues values = {{"v", "1"}, {"w", input.substr(0, 20)}};
            const auto all = playValues(variables, {});
            const Playbook book = readPlaybook(node, all ? *all : values, *inventory, problems);
            for (const PlayStep& step : book.steps)
              require(step.condition.has_value() != !step.arguments.empty(),
                      "a step is a command or a condition");
          }};
}

const fuzz::Targets& targets() {
  static const fuzz::Targets all = {{"armour", armour},
                                    {"blob", blob},
                                    {"key", key},
                                    {"signers", signers},
                                    {"playbook", playbook}};
  return all;
}

}  // namespace
}  // namespace cctl::release

int main(int argc, char** argv) {
  return cctl::fuzz::runFuzzer(cctl::release::targets(), argc, argv);
}
