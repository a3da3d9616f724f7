#include "cli/command.h"

#include <iterator>

namespace cctl::cli {

std::vector<Command> commandTable() {
  std::vector<Command> table;
  for (auto part : {inventoryCommands(), hostCommands(), doctorCommands(), releaseCommands(),
                    changeCommands(), moveCommands(), planCommands(), playCommands(),
                    statusCommands(), watchCommands(), nameCommands(), registryCommands(),
                    coreCommands(), recordCommands(), retireCommands(), otherCommands()})
    table.insert(table.end(), std::make_move_iterator(part.begin()),
                 std::make_move_iterator(part.end()));
  return table;
}

}  // namespace cctl::cli
