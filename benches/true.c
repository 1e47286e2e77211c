// SPDX-License-Identifier: BSD-2-Clause
/* What exec starts. */
int main(void)
{
	return 0;
}
