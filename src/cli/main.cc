#include "cli/program.h"

int main(int argc, char** argv) { return cctl::cli::program(argc, argv); }
