/* SPDX-License-Identifier: Apache-2.0 */
/* WORKER_EDITS: what files on the node add to a container.  See edits.h. */
#include "edits.h"

#include "base/mem.h"
#include "cdi.h"
#include "hooks.h"
#include "worker.h"

static void take(const struct ipc_in *in, uint16_t tag, struct strv *to)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f))
		if (f.tag == tag && ipc_field_str(&f))
			strv_add(to, ipc_field_str(&f));
}

static int collect_devices(const struct ipc_in *in, struct edits *v, struct err *e)
{
	_cleanup_strv_ struct strv dirs = STRV_NULL, devices = STRV_NULL;

	take(in, WORKER_TAG_CDI_DIR, &dirs);
	take(in, WORKER_TAG_CDI_DEVICE, &devices);
	return devices.n ? cdi_collect(&dirs, &devices, v, e) : 0;
}

static void take_annotations(const struct ipc_in *in, struct hooks_subject *s)
{
	struct ipc_field f;
	size_t pos = 0;

	while (ipc_next(in, &pos, &f)) {
		struct ipc_in one = ipc_field_nested(&f);

		if (f.tag != WORKER_TAG_ANNOTATION)
			continue;
		strv_add(&s->keys, str_or_empty(ipc_get_str(&one, WORKER_TAG_NAME)));
		strv_add(&s->values, str_or_empty(ipc_get_str(&one, WORKER_TAG_TEXT)));
	}
}

static int collect_hooks(const struct ipc_in *in, struct edits *v, struct err *e)
{
	_cleanup_strv_ struct strv dirs = STRV_NULL;
	struct hooks_subject s = {
		.command = str_or_empty(ipc_get_str(in, WORKER_TAG_COMMAND)),
		.has_binds = ipc_get_u64(in, WORKER_TAG_HAS_BINDS, 0),
	};
	int r;

	take(in, WORKER_TAG_HOOKS_DIR, &dirs);
	take_annotations(in, &s);
	r = hooks_collect(&dirs, &s, v, e);
	strv_fini(&s.keys);
	strv_fini(&s.values);
	return r;
}

int do_edits(const struct ipc_in *in, struct ipc_out *reply, struct err *e)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct edits v = {0};
	int r = collect_devices(in, &v, e);

	if (r == 0)
		r = collect_hooks(in, &v, e);
	if (r == 0)
		r = edits_print(&v, &b, e);
	if (r == 0)
		ipc_put_bytes(reply, WORKER_TAG_CONTENT, b.s, b.len);
	edits_fini(&v);
	return r;
}
