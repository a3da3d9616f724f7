/* What telling many costs at least: floor SOCKET COUNT BYTES.
 * Takes COUNT clients that each say a line, and answers it with a line of BYTES; then, for each line on
 * standard input, sends such a line to all of them. No names, no files, no state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char input[256];
  if (argc != 4) return 64;
  int count = atoi(argv[2]), listener = socket(AF_UNIX, SOCK_STREAM, 0);
  size_t bytes = (size_t)atoi(argv[3]);
  int *fds = calloc((size_t)count, sizeof *fds);
  char *line = malloc(bytes);
  memset(line, 'x', bytes);
  line[bytes - 1] = '\n';
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0)
    return 1;
  for (int i = 0; i < count; i++) {
    fds[i] = accept(listener, NULL, NULL);
    if (read(fds[i], input, sizeof input) <= 0 || send(fds[i], line, bytes, 0) < 0) return 1;
  }
  while (fgets(input, sizeof input, stdin) != NULL)
    for (int i = 0; i < count; i++)
      if (send(fds[i], line, bytes, 0) < 0) return 1;
  return 0;
}
