// Values that people must not be shown: those of variables that `secrets` names. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/node.h"

namespace cctl {

// A shorter one would be found in every other word.
constexpr size_t kShortestSecret = 4;

// Adds the scalars of a variable's value, without line ends at their end; none that is empty.
void addSecretValues(const Node& value, std::vector<std::string>& values);

// Each occurrence as "(secret)".
std::string hideSecrets(std::string_view text, const std::vector<std::string>& values);

// Two texts to be compared: what is a secret of one side alone is shown as "(old secret)" and
// "(new secret)", so that a changed secret is a difference.
struct HiddenTexts {
  std::string before, after;
};
HiddenTexts hideSecrets(std::string_view before, const std::vector<std::string>& before_values,
                        std::string_view after, const std::vector<std::string>& after_values);

}  // namespace cctl
