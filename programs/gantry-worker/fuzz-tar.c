/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any blob as a layer on top of another: what becomes of it stays in its directory, and by its
 * recipe the same tar comes out again.  Checksums of headers are made right first, else hardly an
 * input would get past them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/fuzz.h"
#include "base/mem.h"
#include "fuzz_top.h"
#include "remake.h"
#include "unpack.h"

#define BLOCK 512

static int top_fd = -EBADF, lower_fd;

/* top/victim/f must stay as it is; top/lower is what the layer is put on. */
static void set_up(void)
{
	top_fd = fuzz_top_make();
	FUZZ_ASSERT(fs_mkdir_p(top_fd, "victim", 0755) == 0);
	FUZZ_ASSERT(fs_write_atomic(top_fd, "victim/f", "safe", 4, 0644, false) == 0);
	FUZZ_ASSERT(fs_mkdir_p(top_fd, "lower/d/e", 0755) == 0);
	FUZZ_ASSERT(fs_write_atomic(top_fd, "lower/d/f", "low", 3, 0644, false) == 0);
	(void)!symlinkat("../victim", top_fd, "lower/out");
	(void)!symlinkat("/", top_fd, "lower/root");
	(void)!symlinkat("d", top_fd, "lower/l");
	lower_fd = openat(top_fd, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void fix_checksums(uint8_t *p, size_t n)
{
	for (; n >= BLOCK; p += BLOCK, n -= BLOCK) {
		unsigned sum = 8 * ' ';

		if (memcmp(p + 257, "ustar", 5) != 0)
			continue;
		for (size_t i = 0; i < BLOCK; i++)
			sum += i - 148 < 8 ? 0 : p[i];
		snprintf((char *)p + 148, 8, "%06o", sum);
		p[155] = ' ';
	}
}

static int lower(void *arg, struct layers *ret, struct err *e)
{
	(void)arg;
	(void)e;
	*ret = (struct layers){&lower_fd, 1};
	return 0;
}

static void check_outside(void)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;
	struct stat st;

	FUZZ_ASSERT(fs_read(top_fd, "victim/f", 16, &b) == 0 && streq(b.s, "safe"));
	FUZZ_ASSERT(fstatat(top_fd, "victim", &st, 0) == 0 && st.st_nlink == 2);
	FUZZ_ASSERT(fstatat(top_fd, "victim/f", &st, 0) == 0 && st.st_nlink == 1);
	FUZZ_ASSERT(fstatat(top_fd, "lower/d/f", &st, 0) == 0 && st.st_nlink == 1);
}

static int ignore(void *arg, const void *p, size_t n, struct err *e)
{
	(void)arg;
	(void)p;
	(void)n;
	(void)e;
	return 0;
}

/* `digest`: of the tar that was unpacked. */
static void make_again(int recipe, int layer, const char *digest)
{
	struct remake_scan scan;
	struct err e = ERR_NULL;
	struct remake m = {.recipe_fd = recipe,
			   .layer_fd = layer,
			   .tmp_fd = top_fd,
			   .diff_id = digest,
			   .scan = &scan,
			   .out = ignore};

	FUZZ_ASSERT(remake_scan(recipe, &scan, &e) == 0);
	FUZZ_ASSERT(remake_tar(&m, &e) == 0);
}

static void unpack(struct stream *s, size_t size, int recipe, int *ret, struct err *e)
{
	struct unpack u = {.lower = lower, .recipe = recipe_new(recipe)};
	char digest[72], made[72];
	uint64_t got;
	int r;

	stream_tap(s, recipe_take, u.recipe);
	u.dirfd = openat(top_fd, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = unpack_layer(&u, s, e);
	contents_fini(&u.contents);
	if (r == 0)
		r = stream_finish(s, digest, e);
	if (r == 0) {
		FUZZ_ASSERT(stream_finish_input(s, made, &got, e) == 0 && got == size);
		FUZZ_ASSERT(recipe_finish(u.recipe, made, e) == 0 && *made);
		make_again(recipe, u.dirfd, digest);
	}
	recipe_free(u.recipe);
	close(u.dirfd);
	*ret = r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_NULL;
	struct stream *s;
	uint8_t *copy = xmemdup(data, size);
	int fd = memfd_create("fuzz", MFD_CLOEXEC), recipe = memfd_create("recipe", MFD_CLOEXEC), r;

	if (top_fd < 0)
		set_up();
	fix_checksums(copy, size);
	FUZZ_ASSERT(fs_write_all(fd, copy, size) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	free(copy);
	FUZZ_ASSERT(mkdirat(top_fd, "layer", 0755) == 0);
	r = stream_open(fd, size, true, &s, &e);
	if (r == 0) {
		unpack(s, size, recipe, &r, &e);
		stream_close(s);
	}
	FUZZ_ASSERT(r == 0 || (e.errnum == r && e.msg[0]));
	close(fd);
	close(recipe);
	FUZZ_ASSERT(fs_remove_tree(top_fd, "layer") == 0);
	check_outside();
	return 0;
}
