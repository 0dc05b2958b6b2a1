/* SPDX-License-Identifier: Apache-2.0 */
/* Reading tar: see tar.h. */
#include "tar.h"

#include "base/mem.h"

#define BLOCK 512
#define SIZE_MAX_ENTRY (UINT64_C(1) << 42) /* 4 TiB: larger is no layer */

struct header { /* pax, ustar Interchange Format */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
		magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
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
	int64_t want, sum = 0;

	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= offsetof(struct header, checksum) &&
				       i < offsetof(struct header, checksum) + 8
			       ? ' '
			       : p[i];
	return number(h->checksum, sizeof(h->checksum), &want) && sum == want;
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
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
	size_t n_xattrs;
};

static void xattrs_fini(struct tar_xattr *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].name);
		free(v[i].value);
	}
}

static void extra_fini(struct extra *x)
{
	free(x->path);
	free(x->link);
	xattrs_fini(x->xattrs, x->n_xattrs);
	*x = (struct extra){0};
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
	*ret = (struct timespec){sec, ns};
	return true;
}

static int take_xattr(struct extra *x, const char *name, const char *v, size_t n, struct err *e)
{
	if (x->n_xattrs == TAR_XATTRS_MAX)
		return bad(e, "an entry has too many extended attributes");
	x->xattrs[x->n_xattrs++] = (struct tar_xattr){xstrdup(name), xmemdup(v, n), n};
	return 0;
}

static int take_record(struct extra *x, const char *key, const char *v, size_t n, struct err *e)
{
	static const char xattr[] = "SCHILY.xattr.";
	_cleanup_free_ char *s = xstrndup(v, n);
	bool good = true;

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
	} else if (str_has_prefix(key, "GNU.sparse.")) {
		return bad(e, "it holds a sparse file");
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
	t->type = h->type == '\0' || h->type == '7' ? '0' : h->type;
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
	t->size = t->type == '0' ? (uint64_t)size : 0;
	t->dev_major = (uint32_t)major;
	t->dev_minor = (uint32_t)minor;
	t->mtime = x->has_mtime ? x->mtime : (struct timespec){mtime, 0};
	memcpy(t->xattrs, x->xattrs, x->n_xattrs * sizeof(*t->xattrs));
	t->n_xattrs = x->n_xattrs;
	x->n_xattrs = 0;
	return 0;
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
		if (h->type && !strchr("01234567", h->type))
			return bad(e, "an entry is of a type that layers do not have");
		r = make_entry(h, x, t, e);
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
	struct extra x = {0};
	struct header h;
	int r = 0;

	_Static_assert(sizeof(h) == BLOCK, "a header is one block");
	*t = (struct tar_entry){0};
	while (r == 0) {
		ssize_t n = stream_read(s, &h, 1, e);

		if (n <= 0) { /* without the blocks of zeros: tolerated, others do */
			r = (int)n;
			break;
		}
		r = stream_read_all(s, (char *)&h + 1, sizeof(h) - 1, e);
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
	xattrs_fini(t->xattrs, t->n_xattrs);
	*t = (struct tar_entry){0};
}

int tar_data_done(struct stream *s, const struct tar_entry *t, uint64_t left, struct err *e)
{
	return stream_skip(s, left + padded(t->size) - t->size, e);
}
