/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a recipe: what is below zstd is the input, so that it is compressed here.  Nothing
 * outside the layer is read, and no more comes out than the recipe said.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/fuzz.h"
#include "base/mem.h"
#include "fuzz_top.h"
#include "recipe.h"
#include "remake.h"

#define OUT_MAX (1u << 20) /* then it is enough */

static int top_fd = -EBADF, layer_fd;

/* top/layer is the layer; top/secret is none of its business. */
static void set_up(void)
{
	top_fd = fuzz_top_make();
	FUZZ_ASSERT(fs_mkdir_p(top_fd, "layer/d", 0755) == 0);
	FUZZ_ASSERT(fs_mkdir_p(top_fd, "tmp", 0755) == 0);
	FUZZ_ASSERT(fs_write_atomic(top_fd, "secret", "SECRET", 6, 0644, false) == 0);
	FUZZ_ASSERT(fs_write_atomic(top_fd, "layer/f", "hello", 5, 0644, false) == 0);
	(void)!symlinkat("../secret", top_fd, "layer/out");
	(void)!symlinkat("..", top_fd, "layer/d/up");
	layer_fd = openat(top_fd, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

struct seen {
	uint64_t n;
};

static int out(void *arg, const void *p, size_t n, struct err *e)
{
	struct seen *s = arg;

	s->n += n;
	FUZZ_ASSERT(n > 0);
	return s->n > OUT_MAX ? err_set(e, -EFBIG, GRPC_CANCELLED, "enough") : 0;
}

static void make(int fd, const struct remake_scan *scan)
{
	struct seen seen = {0};
	struct err e = ERR_NULL;
	struct remake m = {.recipe_fd = fd,
			   .layer_fd = layer_fd,
			   .tmp_fd = openat(top_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			   .diff_id = "sha256:none",
			   .scan = scan,
			   .out = out,
			   .arg = &seen};
	int r = remake_tar(&m, &e);

	FUZZ_ASSERT(r < 0 && seen.n <= scan->size);
	FUZZ_ASSERT(m.problem || e.errnum == r);
	FUZZ_ASSERT(!fs_exists(m.tmp_fd, "kept"));
	close(m.tmp_fd);
	free(m.problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t room = ZSTD_compressBound(size);
	uint8_t *packed = xmalloc(room);
	size_t n = ZSTD_compress(packed, room, data, size, 1);
	int fd = memfd_create("fuzz", MFD_CLOEXEC), r;
	struct remake_scan scan = {0};
	struct err e = ERR_NULL;

	if (top_fd < 0)
		set_up();
	FUZZ_ASSERT(!ZSTD_isError(n) && fs_write_all(fd, packed, n) == 0);
	free(packed);
	r = remake_scan(fd, &scan, &e);
	FUZZ_ASSERT(r == 0 || (e.errnum == r && e.msg[0]));
	if (r == 0)
		make(fd, &scan);
	close(fd);
	return 0;
}
