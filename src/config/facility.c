/* SPDX-License-Identifier: Apache-2.0 */
/* What runtimes may need of the node: see config.h. */
#include "base/mem.h"
#include "base/str.h"
#include "config/config.h"

bool config_facility_good(const char *s)
{
	const char *what = strchr(s, ':');

	if (streq(s, "kvm"))
		return true;
	if (!what || !*++what)
		return false;
	if (str_has_prefix(s, "program:"))
		return true;
	return (str_has_prefix(s, "unix:") || str_has_prefix(s, "file:")) && *what == '/';
}
