/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: writing, reading, and the blocking calls.  See ipc.h; conn.c has the loop side. */
#include "ipc/ipc.h"

#include <sys/socket.h>

#include "base/mem.h"
#include "ipc/ipc_internal.h"

void ipc_out_init(struct ipc_out *o, uint16_t type, uint32_t seq)
{
	struct ipc_header h = {.magic = IPC_MAGIC, .type = type, .seq = seq};

	*o = (struct ipc_out){0};
	strbuf_add(&o->b, &h, sizeof(h));
}

void ipc_out_fini(struct ipc_out *o)
{
	strbuf_fini(&o->b);
	for (unsigned i = 0; i < o->n_fds; i++)
		fd_close(o->fds[i]);
	o->n_fds = 0;
}

/*
 * False, and remembered, where a frame would be larger than its receiver takes.  Some callers
 * collect fields without a header: less than one is nothing.
 */
static bool has_room(struct ipc_out *o, size_t head, size_t n)
{
	size_t used = o->b.len > sizeof(struct ipc_header) ? o->b.len - sizeof(struct ipc_header)
							   : 0,
	       body = used + head;

	if (body > IPC_BODY_MAX || n > IPC_BODY_MAX - body)
		o->too_large = true;
	return !o->too_large;
}

void ipc_put_bytes(struct ipc_out *o, uint16_t tag, const void *p, size_t n)
{
	struct ipc_field_header f = {.tag = tag, .len = (uint32_t)n};

	if (!has_room(o, sizeof(f), n))
		return;
	strbuf_add(&o->b, &f, sizeof(f));
	strbuf_add(&o->b, p, n);
}

void ipc_put_u64(struct ipc_out *o, uint16_t tag, uint64_t v)
{
	ipc_put_bytes(o, tag, &v, sizeof(v));
}

void ipc_put_i64(struct ipc_out *o, uint16_t tag, int64_t v)
{
	ipc_put_bytes(o, tag, &v, sizeof(v));
}

void ipc_put_str(struct ipc_out *o, uint16_t tag, const char *s)
{
	if (s)
		ipc_put_bytes(o, tag, s, strlen(s) + 1);
}

void ipc_put_fd(struct ipc_out *o, int fd)
{
	if (o->n_fds == IPC_FDS_MAX)
		abort();
	o->fds[o->n_fds++] = fd;
}

void ipc_put_nested(struct ipc_out *o, uint16_t tag, struct ipc_out *sub)
{
	ipc_put_bytes(o, tag, sub->b.s + sizeof(struct ipc_header),
		      sub->b.len - sizeof(struct ipc_header));
	o->too_large |= sub->too_large;
	ipc_out_fini(sub);
}

void ipc_put_fields(struct ipc_out *o, const struct ipc_in *in)
{
	if (has_room(o, 0, in->len))
		strbuf_add(&o->b, in->body, in->len);
}

void ipc_out_reply(struct ipc_out *o, uint32_t seq, const struct err *e)
{
	ipc_out_init(o, IPC_REPLY, seq);
	ipc_put_u64(o, IPC_TAG_CODE, e ? (uint64_t)e->code : GRPC_OK);
	if (e) {
		ipc_put_u64(o, IPC_TAG_ERRNO, (uint64_t)-e->errnum);
		ipc_put_str(o, IPC_TAG_MESSAGE, e->msg);
	}
}

int ipc_out_seal(struct ipc_out *o)
{
	struct err e = ERR_NULL;
	struct ipc_header h;

	memcpy(&h, o->b.s, sizeof(h));
	if (o->too_large) {
		ipc_out_fini(o);
		if (h.type != IPC_REPLY)
			return -EMSGSIZE;
		err_set(&e, -EMSGSIZE, GRPC_RESOURCE_EXHAUSTED, "the reply has more than %u bytes",
			IPC_BODY_MAX);
		ipc_out_reply(o, h.seq, &e);
	}
	h.len = (uint32_t)(o->b.len - sizeof(h));
	h.n_fds = (uint16_t)o->n_fds;
	memcpy(o->b.s, &h, sizeof(h));
	return 0;
}

void ipc_in_fini(struct ipc_in *in)
{
	free(in->body);
	for (unsigned i = 0; i < in->n_fds; i++)
		fd_close(in->fds[i]);
	*in = IPC_IN_NULL;
}

bool ipc_next(const struct ipc_in *in, size_t *pos, struct ipc_field *ret)
{
	struct ipc_field_header f;

	if (in->len < sizeof(f) || *pos > in->len - sizeof(f))
		return false;
	memcpy(&f, in->body + *pos, sizeof(f));
	if (f.len > in->len - *pos - sizeof(f))
		return false;
	ret->tag = f.tag;
	ret->p = in->body + *pos + sizeof(f);
	ret->n = f.len;
	*pos += sizeof(f) + f.len;
	return true;
}

const char *ipc_field_str(const struct ipc_field *f)
{
	const char *s = f->p;

	return f->n > 0 && s[f->n - 1] == '\0' ? s : NULL;
}

uint64_t ipc_field_u64(const struct ipc_field *f)
{
	uint64_t v;

	if (f->n != sizeof(v))
		return 0;
	memcpy(&v, f->p, sizeof(v));
	return v;
}

struct ipc_in ipc_field_nested(const struct ipc_field *f)
{
	return (struct ipc_in){.body = (uint8_t *)(uintptr_t)f->p, .len = f->n};
}

static bool find_field(const struct ipc_in *in, uint16_t tag, struct ipc_field *ret)
{
	size_t pos = 0;

	while (ipc_next(in, &pos, ret))
		if (ret->tag == tag)
			return true;
	return false;
}

const char *ipc_get_str(const struct ipc_in *in, uint16_t tag)
{
	struct ipc_field f;

	return find_field(in, tag, &f) ? ipc_field_str(&f) : NULL;
}

uint64_t ipc_get_u64(const struct ipc_in *in, uint16_t tag, uint64_t otherwise)
{
	struct ipc_field f;

	return find_field(in, tag, &f) && f.n == sizeof(uint64_t) ? ipc_field_u64(&f) : otherwise;
}

int64_t ipc_get_i64(const struct ipc_in *in, uint16_t tag, int64_t otherwise)
{
	return (int64_t)ipc_get_u64(in, tag, (uint64_t)otherwise);
}

bool ipc_get_bytes(const struct ipc_in *in, uint16_t tag, const void **ret, size_t *ret_n)
{
	struct ipc_field f;

	if (!find_field(in, tag, &f))
		return false;
	*ret = f.p;
	*ret_n = f.n;
	return true;
}

int ipc_reply_error(const struct ipc_in *in, struct err *e)
{
	uint64_t code = ipc_get_u64(in, IPC_TAG_CODE, GRPC_INTERNAL);
	uint64_t errnum = ipc_get_u64(in, IPC_TAG_ERRNO, EIO);
	const char *msg = ipc_get_str(in, IPC_TAG_MESSAGE);

	if (code == GRPC_OK)
		return 0;
	if (errnum == 0 || errnum > 4095)
		errnum = EIO;
	return err_set(e, -(int)errnum,
		       code > GRPC_UNAUTHENTICATED ? GRPC_UNKNOWN : (enum grpc_code)code, "%s",
		       msg ? msg : "no reason given");
}

ssize_t ipc_send_part(int fd, const struct ipc_out *o, size_t off, int flags)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {o->b.s + off, o->b.len - off};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (off == 0 && o->n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * o->n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * o->n_fds);
		memcpy(CMSG_DATA(c), o->fds, sizeof(int) * o->n_fds);
	}
	do
		n = sendmsg(fd, &m, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t ipc_recv_part(int fd, void *p, size_t n, int flags, int *fds, unsigned *n_fds, unsigned max)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {p, n};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.buf,
			   .msg_controllen = sizeof(control.buf)};
	ssize_t got;

	do
		got = recvmsg(fd, &m, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*n_fds < max)
				fds[(*n_fds)++] = one;
			else
				fd_close(one);
		}
	}
	return got;
}

int ipc_send(int fd, struct ipc_out *o)
{
	size_t off = 0;
	int r = ipc_out_seal(o);

	while (r == 0 && off < o->b.len) {
		ssize_t n = ipc_send_part(fd, o, off, 0);

		if (n < 0) {
			r = (int)n;
			break;
		}
		off += (size_t)n;
	}
	ipc_out_fini(o);
	return r;
}

int ipc_header_check(const struct ipc_header *h)
{
	if (h->magic != IPC_MAGIC || h->len > IPC_BODY_MAX || h->n_fds > IPC_FDS_MAX)
		return -EBADMSG;
	return 0;
}

int ipc_recv(int fd, struct ipc_in *ret)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_header h;
	size_t off = 0;
	ssize_t n;

	while (off < sizeof(h)) {
		n = ipc_recv_part(fd, (char *)&h + off, sizeof(h) - off, 0, in.fds, &in.n_fds,
				  IPC_FDS_MAX);
		if (n <= 0)
			return n < 0 ? (int)n : off ? -EBADMSG : -EPIPE;
		off += (size_t)n;
	}
	if (ipc_header_check(&h) < 0)
		return -EBADMSG;
	in.type = h.type;
	in.seq = h.seq;
	in.len = h.len;
	in.body = xmalloc(h.len);
	for (off = 0; off < h.len; off += (size_t)n) {
		n = ipc_recv_part(fd, in.body + off, h.len - off, 0, in.fds, &in.n_fds,
				  IPC_FDS_MAX);
		if (n <= 0)
			return n < 0 ? (int)n : -EBADMSG;
	}
	if (in.n_fds != h.n_fds)
		return -EBADMSG;
	*ret = in;
	in = IPC_IN_NULL;
	return 0;
}
