/* SPDX-License-Identifier: Apache-2.0 */
/* Which runtime a new container gets. */
#include "base/mem.h"
#include "oci.h"

int choose(struct oci *o, struct program *ret, struct err *e)
{
	struct program *list;

	if (program_list(o, &list) == 0)
		return err_precondition(e, "no runtime of the configuration is installed");
	*ret = list[0];
	return 0;
}
