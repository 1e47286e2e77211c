// SPDX-License-Identifier: BSD-2-Clause
/* A file opened and closed: open FILE */
#include <fcntl.h>
#include <unistd.h>

#include "loop.h"

static int operation(char **arguments)
{
	int file = open(arguments[1], O_RDONLY);

	return file < 0 || close(file);
}
