/* SPDX-License-Identifier: Apache-2.0 */
/* Containers' logs in CRI's format: see logfile.h. */
#include "logfile.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "text.h"

#define READ_SIZE 65536
#define HEAD_MAX 128 /* bytes in which an entry's time, stream and tags must be */

bool log_entry_parse(const char *line, size_t n, struct log_entry *ret)
{
	const char *end = line + n, *stream, *tags, *text;
	struct log_entry x = {.time = line};

	stream = memchr(line, ' ', MIN(n, (size_t)HEAD_MAX));
	if (!stream)
		return false;
	x.time_len = (size_t)(stream++ - line);
	if (!text_parse_rfc3339(line, x.time_len, &x.time_ns))
		return false;
	if (end - stream < 9 || (strncmp(stream, "stdout ", 7) && strncmp(stream, "stderr ", 7)))
		return false;
	x.to_stderr = stream[3] == 'e';
	tags = stream + 7;
	text = memchr(tags, ' ', MIN((size_t)(end - tags), (size_t)HEAD_MAX));
	if (!text || (*tags != 'F' && *tags != 'P') || (tags[1] != ' ' && tags[1] != ':'))
		return false;
	x.partial = *tags == 'P';
	x.text = text + 1;
	x.len = (size_t)(end - x.text);
	*ret = x;
	return true;
}

/* --- the last lines --- */

/* The entry at this place ends a line of the program (or is none of ours). */
static bool ends_line(int fd, off_t at)
{
	char head[HEAD_MAX + 1];
	ssize_t n = pread(fd, head, HEAD_MAX, at);
	struct log_entry x;
	const char *nl;

	if (n <= 0)
		return true;
	nl = memchr(head, '\n', (size_t)n);
	return !log_entry_parse(head, nl ? (size_t)(nl - head) : (size_t)n, &x) || !x.partial;
}

struct tail {
	int fd;
	int64_t left; /* lines that are still wanted */
	off_t begin;  /* of the earliest entry that belongs to a wanted line */
	bool some, over;
};

/* An entry begins at `at`, met on the way from the end to the beginning.  The last one counts
 * as a line, whether its end has come or not. */
static void tail_entry(struct tail *t, off_t at)
{
	bool ends = !t->some || ends_line(t->fd, at);

	t->some = true;
	if (ends && t->left-- == 0)
		t->over = true;
	else
		t->begin = at;
}

int log_tail_offset(int fd, int64_t lines, off_t *ret)
{
	_cleanup_free_ char *buf = xmalloc(READ_SIZE);
	off_t end = lseek(fd, 0, SEEK_END), pos;
	struct tail t = {.fd = fd, .left = lines, .begin = end};

	if (end < 0)
		return -errno;
	for (pos = end; pos > 0 && !t.over;) {
		size_t k = (size_t)MIN(pos, (off_t)READ_SIZE);
		ssize_t n = pread(fd, buf, k, pos - (off_t)k);

		if (n != (ssize_t)k)
			return n < 0 ? -errno : -EIO; /* it became shorter meanwhile */
		pos -= (off_t)k;
		while (k-- > 0 && !t.over)
			if (buf[k] == '\n' && pos + (off_t)k + 1 < end)
				tail_entry(&t, pos + (off_t)k + 1);
	}
	if (!t.over && end > 0)
		tail_entry(&t, 0);
	*ret = t.begin;
	return 0;
}

/* --- reading --- */

static int open_log(struct log_reader *r, bool first)
{
	struct stat st;
	int ret = 0;

	r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (r->fd < 0)
		return -errno;
	if (fstat(r->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL; /* a fifo would hold us up for ever */
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	r->offset = 0;
	if (first && r->o.tail >= 0)
		ret = log_tail_offset(r->fd, r->o.tail, &r->offset);
	return ret;
}

int log_reader_init(struct log_reader *r, const char *path, const struct log_options *o,
		    log_write_fn *write, void *arg)
{
	*r = (struct log_reader){.path = path, .o = *o, .write = write, .arg = arg, .fd = -EBADF};
	return open_log(r, true);
}

static int put(struct log_reader *r, bool err, const char *p, size_t n)
{
	return n ? r->write(r->arg, err, p, n) : 0;
}

static int put_head(struct log_reader *r, const struct log_entry *x)
{
	int ret = 0;

	if (r->o.prefix)
		ret = put(r, x->to_stderr, r->o.prefix, strlen(r->o.prefix));
	if (ret == 0 && r->o.timestamps)
		ret = put(r, x->to_stderr, x->time, x->time_len);
	if (ret == 0 && r->o.timestamps)
		ret = put(r, x->to_stderr, " ", 1);
	return ret;
}

static int show(struct log_reader *r, const struct log_entry *x)
{
	unsigned k = x->to_stderr;
	bool begins = !r->in_line[k] && !r->skipped[k];
	int ret = 0;

	if (begins && x->time_ns > r->o.until_ns) {
		r->past_until = true;
		return 0;
	}
	if ((begins && x->time_ns < r->o.since_ns) || r->skipped[k] ||
	    !(x->to_stderr ? r->o.err : r->o.out)) {
		r->skipped[k] = x->partial;
		return 0;
	}
	if (begins)
		ret = put_head(r, x);
	if (ret == 0)
		ret = put(r, x->to_stderr, x->text, x->len);
	if (ret == 0 && !x->partial)
		ret = put(r, x->to_stderr, "\n", 1);
	r->in_line[k] = x->partial;
	return ret;
}

static int take_line(struct log_reader *r, const char *p, size_t n)
{
	struct log_entry x;
	int ret;

	if (log_entry_parse(p, n, &x))
		return show(r, &x);
	r->foreign++;
	ret = put(r, false, p, n);
	return ret < 0 ? ret : put(r, false, "\n", 1);
}

static int take(struct log_reader *r, const char *p, size_t n)
{
	int ret = 0;

	while (n > 0 && ret == 0 && !r->past_until) {
		const char *nl = memchr(p, '\n', n);
		size_t k = nl ? (size_t)(nl - p) : n;

		if (!nl || r->buf.len)
			strbuf_add(&r->buf, p, k);
		if (nl && r->buf.len)
			ret = take_line(r, r->buf.s, r->buf.len);
		else if (nl)
			ret = take_line(r, p, k);
		else if (r->buf.len > LOG_ENTRY_MAX)
			ret = take_line(r, r->buf.s, r->buf.len);
		if (nl || r->buf.len > LOG_ENTRY_MAX)
			strbuf_reset(&r->buf);
		k += nl != NULL;
		p += k;
		n -= k;
	}
	return ret;
}

static int read_to_end(struct log_reader *r)
{
	_cleanup_free_ char *buf = xmalloc(READ_SIZE);

	while (!r->past_until) {
		ssize_t n = pread(r->fd, buf, READ_SIZE, r->offset);
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r->offset += n;
		ret = take(r, buf, (size_t)n);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int log_reader_read(struct log_reader *r)
{
	struct stat st;
	int ret, res;

	for (;;) {
		if (r->fd < 0) {
			ret = open_log(r, false);
			if (ret < 0)
				return ret == -ENOENT ? 0 : ret;
		}
		if (fstat(r->fd, &st) == 0 && st.st_size < r->offset)
			r->offset = 0; /* truncated in place */
		/* The order matters: once another file has the name, this one is whole. */
		ret = stat(r->path, &st) < 0 ? -errno : 0;
		if (ret < 0 && ret != -ENOENT)
			return ret;
		res = read_to_end(r);
		if (res < 0)
			return res;
		if (ret < 0 || (st.st_dev == r->dev && st.st_ino == r->ino) || r->past_until)
			return 0;
		r->fd = fd_close(r->fd);
	}
}

int log_reader_finish(struct log_reader *r)
{
	int ret = 0;

	if (r->buf.len && !r->past_until)
		ret = take_line(r, r->buf.s, r->buf.len);
	strbuf_reset(&r->buf);
	return ret;
}

void log_reader_fini(struct log_reader *r)
{
	r->fd = fd_close(r->fd);
	strbuf_fini(&r->buf);
}

/* --- waiting --- */

int log_watch_init(struct log_watch *w, const char *path)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');

	*w = (struct log_watch){.inotify_fd = -EBADF, .more_fds = {-1, -1}};
	if (!slash)
		return -EINVAL;
	slash[slash == dir] = '\0';
	w->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify_fd < 0)
		return -errno;
	if (inotify_add_watch(w->inotify_fd, dir,
			      IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF) < 0)
		return -errno;
	return 0;
}

int log_watch_wait(struct log_watch *w, int timeout_ms, unsigned *ret)
{
	struct pollfd p[3] = {{.fd = w->inotify_fd, .events = POLLIN},
			      {.fd = w->more_fds[0], .events = POLLIN},
			      {.fd = w->more_fds[1], .events = POLLIN}};
	char buf[4096];
	int n = poll(p, ARRAY_SIZE(p), timeout_ms);

	*ret = 0;
	if (n == 0)
		return -ETIMEDOUT;
	while (read(w->inotify_fd, buf, sizeof(buf)) > 0)
		;
	for (unsigned i = 0; i < 2; i++)
		if (n > 0 && p[i + 1].revents)
			*ret |= 1u << i;
	return 0;
}

void log_watch_fini(struct log_watch *w)
{
	w->inotify_fd = fd_close(w->inotify_fd);
}
