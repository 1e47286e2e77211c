// SPDX-License-Identifier: BSD-2-Clause
/* A program started and waited for: exec PROGRAM */
#define _GNU_SOURCE
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"

static int operation(char **arguments)
{
	char *nothing[] = { NULL };
	int status;
	pid_t child = vfork();

	if (!child) {
		execve(arguments[1], arguments + 1, nothing);
		_exit(127);
	}
	return child < 0 || waitpid(child, &status, 0) != child || status;
}
