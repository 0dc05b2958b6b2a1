/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshotter: see snapshot.h. */
#include "snapshot/snapshot.h"

#include "base/mem.h"

static const struct snapshot_ops *const all[] = {&snapshot_overlay};

const struct snapshot_ops *snapshotter = &snapshot_overlay;

int snapshot_choose(const char *name, struct err *e)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(all); i++)
		if (streq(all[i]->name, name)) {
			snapshotter = all[i];
			return 0;
		}
	return name ? err_invalid(e, "no snapshotter \"%s\" is known", name) : 0;
}
