/* SPDX-License-Identifier: Apache-2.0 */
/* Installed set-user-id root: says which effective user id it got. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("Effective uid: %d\n", (int)geteuid());
	return 0;
}
