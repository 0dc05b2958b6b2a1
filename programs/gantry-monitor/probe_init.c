/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a runtime's probe in sanitizer builds, whose monitor is not static. */
int main(void)
{
	return 0;
}
