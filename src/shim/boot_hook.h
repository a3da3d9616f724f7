// What starts a shim when its host boots, and again when it is gone.
#pragma once

#include <string>

#include "base/result.h"

namespace cctl::shim {

struct BootHook {
  enum class Kind { kNone, kSystemd, kCronDir, kCrontab };
  Kind kind = Kind::kNone;
  std::string reason;  // why there is none
};

// Puts it in place, as far as this user may; the same again is fine. Not being able to is no error:
// the kind is then kNone. Does not start anything.
BootHook installBootHook(const std::string& root, const std::string& cluster);
[[nodiscard]] Result<void> removeBootHook(const std::string& root, const std::string& cluster);

// What is in place by now. The kind is what would start the shim; the reason says why that will not
// work, or why there is nothing. `proc`: where processes are looked for. Asks crontab(1), two
// seconds at most, when this user is not root.
BootHook findBootHook(const std::string& root, const std::string& cluster,
                      const std::string& proc = "/proc");

// True when systemd runs here and we may tell it what to do.
bool underSystemd();
// "systemctl start clusterctl-CLUSTER.service" and the like.
[[nodiscard]] Result<void> systemctl(const std::string& verb, const std::string& cluster);

// True while systemd takes the host down (systemctl(1), is-system-running: "stopping").
bool hostGoesDown();

// The texts, apart from their effects.
std::string unitText(const std::string& root, const std::string& cluster);
std::string cronFileText(const std::string& root, const std::string& cluster);
// The user's crontab with our lines added or replaced, or taken out.
std::string crontabWith(const std::string& crontab, const std::string& root,
                        const std::string& cluster);
std::string crontabWithout(const std::string& crontab, const std::string& cluster);
// A name that cron reads: it passes over files with a dot in theirs.
std::string cronFileName(const std::string& cluster);

}  // namespace cctl::shim
