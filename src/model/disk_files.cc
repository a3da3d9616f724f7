#include "model/disk_files.h"

#include <sys/stat.h>

#include <cerrno>

#include "base/file.h"
#include "model/node.h"

namespace cctl {

Result<std::string> DiskFiles::read(const std::string& path) const {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return failErrno(errno, path);
  // A pipe would block for ever, and a device has no end.
  if (!S_ISREG(status.st_mode))
    return fail(Code::kBadInput, "{}: not a regular file; put a file there", path);
  return readFile(path, kMaxYamlBytes);
}

Result<std::vector<std::string>> DiskFiles::list(const std::string& dir) const {
  CCTL_TRY(std::vector<std::string> names, listDir(dir));
  std::vector<std::string> shown;
  for (std::string& name : names)
    if (name[0] != '.' && !isDirectory(dir + "/" + name)) shown.push_back(std::move(name));
  return shown;
}

}  // namespace cctl
