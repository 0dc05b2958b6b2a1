/* SPDX-License-Identifier: Apache-2.0 */
/* WORKER_EDITS: what files on the node add to a container.  See edits.h. */
#include "edits.h"

#include "base/mem.h"
#include "cdi.h"
#include "worker.h"

static void take(const struct ipc_in *in, uint16_t tag, struct strv *to)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f))
		if (f.tag == tag && ipc_field_str(&f))
			strv_add(to, ipc_field_str(&f));
}

static int collect(const struct ipc_in *in, struct edits *v, struct err *e)
{
	_cleanup_strv_ struct strv dirs = STRV_NULL, devices = STRV_NULL;

	take(in, WORKER_TAG_CDI_DIR, &dirs);
	take(in, WORKER_TAG_CDI_DEVICE, &devices);
	return devices.n ? cdi_collect(&dirs, &devices, v, e) : 0;
}

int do_edits(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct edits v = {0};
	int r = collect(in, &v, e);

	if (r == 0)
		r = edits_print(&v, &b, e);
	if (r == 0)
		ipc_put_bytes(reply, WORKER_TAG_CONTENT, b.s, b.len);
	edits_fini(&v);
	return r;
}
