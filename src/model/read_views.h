// `views` of cluster.yaml.
#pragma once

#include "model/inventory.h"
#include "model/node.h"
#include "model/problem.h"

namespace cctl {

// Reads the list into `inventory.views`, whose hosts and groups were read before.
void readViews(const Node& node, Inventory& inventory, Problems& problems);

// What needs the manifests: that the services are there and have the ports.
void checkViews(const Inventory& inventory, Problems& problems);

}  // namespace cctl
