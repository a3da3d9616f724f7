#include "world.h"

namespace cctl::sim {

// Each schedule has a theme, so that rare meetings of two things are looked for on purpose.
Weather weatherOf(SimRandom& random) {
  Weather weather;
  weather.hosts = random.percent(75) ? 3 : 5;
  weather.clients = random.between(2, 5);
  weather.keys = random.between(1, 2);
  weather.operations = random.between(6, 16);
  weather.most_delay = random.percent(50) ? 2'000 : 40'000;
  weather.most_sync = random.percent(50) ? 1'000 : 30'000;
  weather.thinks = random.percent(50) ? 5'000 : 80'000;
  weather.asks_ahead = random.percent(50);
  weather.loss = random.percent(50) ? random.between(0, 25) : 0;
  weather.twice = random.percent(40) ? random.between(0, 20) : 0;
  switch (random.below(9)) {
    case 0:
      break;  // duels alone
    case 1:
      weather.crashes = random.between(2, 20);
      break;
    case 2:
      weather.crashes = random.between(0, 6);
      weather.wipes = random.between(1, 3);
      weather.changes = random.between(0, 4);
      break;
    case 3:
      weather.cuts = random.between(2, 20);
      break;
    case 4:
    case 5:
      weather.changes = random.between(1, 5);
      weather.kills = random.between(0, 6);
      weather.crashes = random.between(0, 4);
      break;
    case 6:
      weather.kills = random.between(2, 10);
      weather.cuts = random.between(0, 6);
      weather.crashes = random.between(0, 10);
      break;
    case 7:  // amnesia: up again while the messages of before are still on their way
      weather.hosts = 3;
      weather.crashes = random.between(20, 120);
      weather.most_down = 2'000;
      weather.most_delay = random.between(20'000, 60'000);
      weather.most_sync = 500;
      weather.thinks = 2'000;
      break;
    case 8:
      weather.born = true;
      weather.crashes = random.between(0, 4);
      weather.kills = random.between(0, 4);
      break;
  }
  return weather;
}

}  // namespace cctl::sim
