/* SPDX-License-Identifier: Apache-2.0 */
/* Reading tar: see tar.h. */
#include "tar.h"

#include "base/mem.h"

#define BLOCK 512
#define SIZE_MAX_ENTRY (UINT64_C(1) << 42) /* 4 TiB: larger is no layer */

struct header { /* pax, ustar Interchange Format */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
		magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155],
		pad[12];
};

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "the layer is no well-formed tar: %s", what);
}

/* Octal digits, or GNU's base 256 for what does not fit. */
static bool number(const char *p, size_t n, int64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((unsigned char)p[0] & 0x80) {
		bool negative = (unsigned char)p[0] == 0xff;

		v = negative ? UINT64_MAX : (unsigned char)p[0] & 0x7f;
		for (i = 1; i < n; i++) {
			if (!negative && v >> 55)
				return false;
			v = v << 8 | (unsigned char)p[i];
		}
		*ret = (int64_t)v;
		return true;
	}
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0');
	if (i < n && p[i] != '\0' && p[i] != ' ')
		return false;
	*ret = (int64_t)v;
	return true;
}

static bool checksum_good(const struct header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	int64_t want, sum = 8 * ' ', odd = 8 * ' '; /* odd: as old tars added it up, signed */

	for (size_t i = 0; i < BLOCK; i++) {
		if (i - offsetof(struct header, checksum) < sizeof(h->checksum))
			continue;
		sum += p[i];
		odd += (signed char)p[i];
	}
	return number(h->checksum, sizeof(h->checksum), &want) && (sum == want || odd == want);
}

static bool all_zero(const struct header *h)
{
	const char *p = (const char *)h;

	for (size_t i = 0; i < BLOCK; i++)
		if (p[i])
			return false;
	return true;
}

static char *field(const char *p, size_t n)
{
	return xstrndup(p, strnlen(p, n));
}

static uint64_t padded(uint64_t n)
{
	return (n + BLOCK - 1) / BLOCK * BLOCK;
}

static int read_text(struct stream *s, int64_t size, char **ret, struct err *e)
{
	char *p;
	int r;

	if (size < 0 || size > TAR_HEADERS_MAX)
		return bad(e, "an extended header is too long");
	p = xmalloc((size_t)size + 1);
	r = stream_read_all(s, p, (size_t)size, e);
	if (r == 0)
		r = stream_skip(s, padded((uint64_t)size) - (uint64_t)size, e);
	if (r < 0) {
		free(p);
		return r;
	}
	p[size] = '\0';
	*ret = p;
	return 0;
}

/* --- pax records: "LENGTH KEY=VALUE\n" --- */

struct extra {
	char *path, *link;
	bool has_size, has_uid, has_gid, has_mtime;
	int64_t size, uid, gid;
	struct timespec mtime;
	struct tar_xattr *xattrs;
	size_t n_xattrs;
	/* sparse files */
	bool sparse, map_in_data;
	int64_t real_size; /* -1: not said */
	struct tar_segment *segments;
	size_t n_segments;
	bool half; /* the last segment's size is still to come */
};
#define EXTRA_INIT ((struct extra){.real_size = -1})

static void xattrs_fini(struct tar_xattr *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].name);
		free(v[i].value);
	}
	free(v);
}

static void extra_fini(struct extra *x)
{
	free(x->path);
	free(x->link);
	xattrs_fini(x->xattrs, x->n_xattrs);
	free(x->segments);
	*x = EXTRA_INIT;
}

static bool parse_time(const char *s, struct timespec *ret)
{
	_cleanup_free_ char *whole = xstrndup(s, strcspn(s, "."));
	const char *dot = strchr(s, '.');
	int64_t sec;
	long ns = 0, unit = 100000000;

	if (!str_to_i64(whole, &sec))
		return false;
	for (const char *p = dot ? dot + 1 : ""; *p >= '0' && *p <= '9' && unit; p++, unit /= 10)
		ns += (*p - '0') * unit;
	if (*s == '-' && ns > 0) { /* -1.25 is 0.75 after -2 */
		sec--;
		ns = 1000000000 - ns;
	}
	*ret = (struct timespec){sec, ns};
	return true;
}

static int take_xattr(struct extra *x, const char *name, const char *v, size_t n, struct err *e)
{
	if (x->n_xattrs == TAR_XATTRS_MAX)
		return bad(e, "an entry has too many extended attributes");
	x->xattrs = xrealloc(x->xattrs, (x->n_xattrs + 1) * sizeof(*x->xattrs));
	x->xattrs[x->n_xattrs++] = (struct tar_xattr){xstrdup(name), xmemdup(v, n), n};
	return 0;
}

/* --- sparse files --- */

static int add_segment(struct extra *x, int64_t offset, int64_t size, struct err *e)
{
	const struct tar_segment *last = x->n_segments ? &x->segments[x->n_segments - 1] : NULL;

	if (offset < 0 || size < 0 || (uint64_t)offset > SIZE_MAX_ENTRY ||
	    (uint64_t)size > SIZE_MAX_ENTRY ||
	    (last && (uint64_t)offset < last->offset + last->size))
		return bad(e, "a sparse file's map makes no sense");
	if (x->n_segments >= TAR_SEGMENTS_MAX)
		return bad(e, "a sparse file has too many pieces");
	if (x->n_segments % 64 == 0)
		x->segments = xrealloc(x->segments, (x->n_segments + 64) * sizeof(*x->segments));
	x->segments[x->n_segments++] = (struct tar_segment){(uint64_t)offset, (uint64_t)size};
	return 0;
}

/* GNU.sparse.offset and .numbytes come in turn (format 0.0). */
static int take_half_segment(struct extra *x, bool size, int64_t v, struct err *e)
{
	if (size != x->half)
		return bad(e, "a sparse file's map makes no sense");
	x->half = !size;
	if (!size)
		return add_segment(x, v, 0, e);
	if (v < 0 || (uint64_t)v > SIZE_MAX_ENTRY)
		return bad(e, "a sparse file's map makes no sense");
	x->segments[x->n_segments - 1].size = (uint64_t)v;
	return 0;
}

/* "OFFSET,SIZE,OFFSET,SIZE" (format 0.1) */
static int take_map(struct extra *x, char *s, struct err *e)
{
	char *save = NULL;
	bool size = false;
	int r = 0;

	for (char *p = strtok_r(s, ",", &save); r == 0 && p; p = strtok_r(NULL, ",", &save)) {
		int64_t v;

		r = str_to_i64(p, &v) ? take_half_segment(x, size, v, e)
				      : bad(e, "a sparse file's map makes no sense");
		size = !size;
	}
	return r;
}

static int take_sparse(struct extra *x, const char *key, char *s, struct err *e)
{
	int64_t v = 0;
	bool number = str_to_i64(s, &v);

	x->sparse = true;
	if (streq(key, "map"))
		return take_map(x, s, e);
	if (streq(key, "name")) {
		free(x->path);
		x->path = xstrdup(s);
		return 0;
	}
	if (!number)
		return bad(e, "an extended header has a bad number");
	if (streq(key, "size") || streq(key, "realsize"))
		x->real_size = v;
	else if (streq(key, "major"))
		x->map_in_data = v == 1;
	else if (streq(key, "offset") || streq(key, "numbytes"))
		return take_half_segment(x, *key == 'n', v, e);
	return 0; /* minor, numblocks: follow from the others */
}

/* One decimal line of the map that stands before the content (format 1.0). */
static int map_number(struct stream *s, char *block, size_t *pos, uint64_t *used, int64_t *ret,
		      struct err *e)
{
	char text[24];
	size_t n = 0;

	for (;; n++) {
		if (*pos == BLOCK) {
			int r = stream_read_all(s, block, BLOCK, e);

			if (r < 0)
				return r;
			*pos = 0;
			*used += BLOCK;
		}
		text[n] = block[(*pos)++];
		if (text[n] == '\n')
			break;
		if (n + 2 > sizeof(text))
			return bad(e, "a sparse file's map makes no sense");
	}
	text[n] = '\0';
	return str_to_i64(text, ret) ? 0 : bad(e, "a sparse file's map makes no sense");
}

static int read_map(struct stream *s, struct extra *x, struct tar_entry *t, struct err *e)
{
	char block[BLOCK];
	size_t pos = BLOCK;
	uint64_t used = 0;
	int64_t n, offset, size;
	int r = map_number(s, block, &pos, &used, &n, e);

	if (r == 0 && (n < 0 || n > TAR_SEGMENTS_MAX))
		return bad(e, "a sparse file has too many pieces");
	for (int64_t i = 0; r == 0 && i < n; i++) {
		r = map_number(s, block, &pos, &used, &offset, e);
		if (r == 0)
			r = map_number(s, block, &pos, &used, &size, e);
		if (r == 0)
			r = add_segment(x, offset, size, e);
	}
	if (r == 0 && used > t->size)
		return bad(e, "a sparse file's map is longer than the file");
	t->size -= r == 0 ? used : 0;
	return r;
}

/* GNU's old form: the map is in the header and in blocks after it. */
struct gnu_sparse {
	char offset[12], size[12];
};

static int take_gnu_map(const char *p, size_t n, struct extra *x, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct gnu_sparse *g = (const void *)(p + i * sizeof(*g));
		int64_t offset, size;
		int r;

		if (!*g->offset || !*g->size)
			break;
		if (!number(g->offset, 12, &offset) || !number(g->size, 12, &size))
			return bad(e, "a sparse file's map makes no sense");
		r = add_segment(x, offset, size, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_gnu_sparse(struct stream *s, const struct header *h, struct extra *x, struct err *e)
{
	const char *p = (const char *)h;
	char block[BLOCK];
	bool more = p[482];
	int r = take_gnu_map(p + 386, 4, x, e);

	x->sparse = true;
	if (!number(p + 483, 12, &x->real_size))
		return bad(e, "a header has a bad number");
	while (r == 0 && more) {
		r = stream_read_all(s, block, sizeof(block), e);
		if (r == 0)
			r = take_gnu_map(block, 21, x, e);
		more = block[504];
	}
	return r;
}

/* The map has to account for every byte that follows. */
static int finish_sparse(struct extra *x, struct tar_entry *t, struct err *e)
{
	uint64_t sum = 0;

	if (x->real_size < 0 || (uint64_t)x->real_size > SIZE_MAX_ENTRY || x->half)
		return bad(e, "a sparse file's size is missing or out of range");
	t->real_size = (uint64_t)x->real_size;
	for (size_t i = 0; i < x->n_segments; i++) {
		if (x->segments[i].offset + x->segments[i].size > t->real_size)
			return bad(e, "a sparse file's map is larger than the file");
		sum += x->segments[i].size;
	}
	if (sum != t->size)
		return bad(e, "a sparse file's map does not fit its content");
	t->sparse = true;
	t->segments = TAKE_PTR(x->segments);
	t->n_segments = x->n_segments;
	return 0;
}

static int take_record(struct extra *x, const char *key, const char *v, size_t n, struct err *e)
{
	static const char xattr[] = "SCHILY.xattr.";
	static const char sparse[] = "GNU.sparse.";
	_cleanup_free_ char *s = xstrndup(v, n);
	bool good = true;

	if (n == 0 && !str_has_prefix(key, xattr))
		return 0; /* as if it were not there */
	if (streq(key, "path") || streq(key, "linkpath")) {
		char **to = streq(key, "path") ? &x->path : &x->link;

		if (memchr(v, '\0', n) || n >= TAR_PATH_MAX)
			return bad(e, "a name is too long or holds a NUL");
		free(*to);
		*to = TAKE_PTR(s);
	} else if (streq(key, "size")) {
		good = x->has_size = str_to_i64(s, &x->size);
	} else if (streq(key, "uid")) {
		good = x->has_uid = str_to_i64(s, &x->uid);
	} else if (streq(key, "gid")) {
		good = x->has_gid = str_to_i64(s, &x->gid);
	} else if (streq(key, "mtime")) {
		good = x->has_mtime = parse_time(s, &x->mtime);
	} else if (str_has_prefix(key, xattr)) {
		return take_xattr(x, key + strlen(xattr), v, n, e);
	} else if (str_has_prefix(key, sparse)) {
		if (n >= TAR_PATH_MAX && streq(key, "GNU.sparse.name"))
			return bad(e, "a name is too long or holds a NUL");
		return take_sparse(x, key + strlen(sparse), s, e);
	}
	return good ? 0 : bad(e, "an extended header has a bad number");
}

static int take_records(struct extra *x, const char *p, size_t n, struct err *e)
{
	while (n > 0) {
		size_t len = 0, digits = 0;
		const char *eq;

		while (digits < n && digits < 8 && p[digits] >= '0' && p[digits] <= '9')
			len = len * 10 + (size_t)(p[digits++] - '0');
		if (digits == 0 || digits >= n || p[digits] != ' ' || len > n || len < digits + 3 ||
		    p[len - 1] != '\n')
			return bad(e, "an extended header is not well-formed");
		eq = memchr(p + digits + 1, '=', len - digits - 2);
		if (!eq)
			return bad(e, "an extended header is not well-formed");
		{
			_cleanup_free_ char *key =
				xstrndup(p + digits + 1, (size_t)(eq - p) - digits - 1);
			int r = take_record(x, key, eq + 1, (size_t)(p + len - 1 - (eq + 1)), e);

			if (r < 0)
				return r;
		}
		p += len;
		n -= len;
	}
	return 0;
}

/* --- entries --- */

/* Drops what makes one place have several names; "..", which only a root can answer, stays. */
static char *clean(const char *s)
{
	struct strbuf b = STRBUF_NULL;

	while (*s) {
		size_t n = strcspn(s, "/");

		if (n > 0 && !(n == 1 && *s == '.')) {
			if (b.len)
				strbuf_addc(&b, '/');
			strbuf_add(&b, s, n);
		}
		s += n + (s[n] == '/');
	}
	return strbuf_take(&b);
}

static bool ids_fit(int64_t uid, int64_t gid)
{
	return uid >= 0 && uid <= UINT32_MAX - 1 && gid >= 0 && gid <= UINT32_MAX - 1;
}

static int make_entry(const struct header *h, struct extra *x, struct tar_entry *t, struct err *e)
{
	bool ustar = memcmp(h->magic, "ustar", 5) == 0;
	_cleanup_free_ char *name = field(h->name, sizeof(h->name)),
			    *prefix = ustar && h->magic[5] == '\0'
					      ? field(h->prefix, sizeof(h->prefix))
					      : xstrdup("");
	_cleanup_free_ char *full = *prefix ? xasprintf("%s/%s", prefix, name) : xstrdup(name);
	int64_t mode, uid, gid, size, mtime, major = 0, minor = 0;

	if (!number(h->mode, sizeof(h->mode), &mode) || !number(h->uid, sizeof(h->uid), &uid) ||
	    !number(h->gid, sizeof(h->gid), &gid) || !number(h->size, sizeof(h->size), &size) ||
	    !number(h->mtime, sizeof(h->mtime), &mtime))
		return bad(e, "a header has a bad number");
	t->type = h->type == '\0' || h->type == '7' || h->type == 'S' ? '0' : h->type;
	if ((t->type == '3' || t->type == '4') &&
	    (!number(h->major, sizeof(h->major), &major) ||
	     !number(h->minor, sizeof(h->minor), &minor) || major < 0 || minor < 0 ||
	     major > 0xfff || minor > 0xfffff))
		return bad(e, "a device has a bad number");
	uid = x->has_uid ? x->uid : uid;
	gid = x->has_gid ? x->gid : gid;
	size = x->has_size ? x->size : size;
	if (!ids_fit(uid, gid))
		return bad(e, "an owner is out of range");
	if (size < 0 || (uint64_t)size > SIZE_MAX_ENTRY)
		return bad(e, "a size is out of range");
	if (t->type == '0' && str_has_suffix(x->path ? x->path : full, "/"))
		t->type = '5'; /* as old tars have it */
	t->path = clean(x->path ? x->path : full);
	t->link = x->link ? TAKE_PTR(x->link) : field(h->link, sizeof(h->link));
	if (strlen(t->path) >= TAR_PATH_MAX || strlen(t->link) >= TAR_PATH_MAX)
		return bad(e, "a name is too long");
	t->mode = (mode_t)mode & 07777;
	t->uid = (uint32_t)uid;
	t->gid = (uint32_t)gid;
	t->size = t->real_size = t->type == '0' ? (uint64_t)size : 0;
	t->pad = padded(t->size) - t->size;
	t->dev_major = (uint32_t)major;
	t->dev_minor = (uint32_t)minor;
	t->mtime = x->has_mtime ? x->mtime : (struct timespec){mtime, 0};
	t->xattrs = TAKE_PTR(x->xattrs);
	t->n_xattrs = x->n_xattrs;
	x->n_xattrs = 0;
	return 0;
}

static int take_entry(struct stream *s, const struct header *h, struct extra *x,
		      struct tar_entry *t, struct err *e)
{
	int r = 0;

	if (h->type && !strchr("01234567S", h->type))
		return bad(e, "an entry is of a type that layers do not have");
	if (h->type == 'S')
		r = read_gnu_sparse(s, h, x, e);
	if (r == 0)
		r = make_entry(h, x, t, e);
	if (r < 0 || !x->sparse || t->type != '0')
		return r;
	if (x->map_in_data)
		r = read_map(s, x, t, e);
	return r < 0 ? r : finish_sparse(x, t, e);
}

static int take_header(struct stream *s, const struct header *h, struct extra *x,
		       struct tar_entry *t, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	int64_t size;
	int r;

	if (!checksum_good(h))
		return bad(e, "a header's checksum is wrong");
	if (!strchr("xgLK", h->type) || !h->type) {
		r = take_entry(s, h, x, t, e);
		return r < 0 ? r : 1;
	}
	if (!number(h->size, sizeof(h->size), &size))
		return bad(e, "a header has a bad number");
	r = read_text(s, size, &text, e);
	if (r < 0)
		return r;
	if (h->type == 'x')
		return take_records(x, text, (size_t)size, e);
	if ((h->type == 'L' || h->type == 'K') && strlen(text) >= TAR_PATH_MAX)
		return bad(e, "a name is too long");
	if (h->type == 'L') {
		free(x->path);
		x->path = TAKE_PTR(text);
	} else if (h->type == 'K') {
		free(x->link);
		x->link = TAKE_PTR(text);
	}
	return 0; /* global headers say nothing that layers need */
}

int tar_next(struct stream *s, struct tar_entry *t, struct err *e)
{
	struct extra x = EXTRA_INIT;
	struct header h;
	int r = 0;

	_Static_assert(sizeof(h) == BLOCK, "a header is one block");
	*t = (struct tar_entry){0};
	while (r == 0) {
		const void *p;
		ssize_t n = stream_next(s, sizeof(h), &p, e);

		if (n <= 0) { /* without the blocks of zeros: tolerated, others do */
			r = (int)n;
			break;
		}
		memcpy(&h, p, (size_t)n);
		r = stream_read_all(s, (char *)&h + n, sizeof(h) - (size_t)n, e);
		if (r < 0 || all_zero(&h))
			break;
		r = take_header(s, &h, &x, t, e);
	}
	extra_fini(&x);
	if (r < 0)
		tar_entry_fini(t);
	return r;
}

void tar_entry_fini(struct tar_entry *t)
{
	free(t->path);
	free(t->link);
	free(t->segments);
	xattrs_fini(t->xattrs, t->n_xattrs);
	*t = (struct tar_entry){0};
}

int tar_data_done(struct stream *s, const struct tar_entry *t, uint64_t left, struct err *e)
{
	return stream_skip(s, left + t->pad, e);
}
