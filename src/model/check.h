// What can be judged only with the whole inventory at hand.
#pragma once

#include "model/inventory.h"
#include "model/problem.h"

namespace cctl {

// Names of groups, hosts, labels, services, templates and secrets; cycles; every name in every
// template and command, for each kind of host that the service may run on.
void checkInventory(const Inventory& inventory, Problems& problems, Problems& warnings);

}  // namespace cctl
