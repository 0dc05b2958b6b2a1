/* SPDX-License-Identifier: Apache-2.0 */
/* Layers being made: see layer.h. */
#include "layer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "artifact.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "confine.h"
#include "measure.h"
#include "sums.h"
#include "stream.h"
#include "unpack.h"
#include "worker.h"

/* What a process says: that it needs the layers below, or how it ended. */
struct message {
	bool wants_lower;
	int r;
	bool wrong_blob;
	uint64_t bytes;
	struct measure used;
	char sums[72], recipe[72];
	struct err e;
};

/* --- in the process --- */

struct process {
	struct layer_set *set;
	size_t i;
	int talk, dirfd;
	int lower[IMAGE_LAYERS_MAX + 1];
	size_t n_lower;
};

static int open_lower(void *arg, struct layers *ret, struct err *e)
{
	struct process *p = arg;
	struct message m = {.wants_lower = true};
	char go;

	if (p->set->apart) {
		*ret = (struct layers){p->lower, 0};
		return 0;
	}
	if (send(p->talk, &m, sizeof(m), MSG_NOSIGNAL) < 0 || recv(p->talk, &go, 1, 0) != 1)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	for (size_t i = p->i; i-- > 0;) {
		int fd = store_open_layer(p->set->store, p->set->v[i].out.name);

		if (fd < 0)
			return err_errno(e, fd, "open the layer %s", p->set->v[i].out.name);
		p->lower[p->n_lower++] = fd;
	}
	*ret = (struct layers){p->lower, p->n_lower};
	return 0;
}

/* An error of the content counts only where the blob is what it should be: else another host
 * may have the right one. */
static int check_blob(const struct layer *l, struct stream *s, int r, bool *ret_wrong,
		      struct err *e)
{
	struct err late = ERR_NULL;
	char got[72];
	uint64_t size;
	int res;

	if (!l->digest || (r < 0 && e->code != GRPC_DATA_LOSS))
		return r;
	res = stream_finish_input(s, got, &size, &late);
	if (res < 0 || (streq(got, l->digest) && size == l->size))
		return r;
	*ret_wrong = true;
	if (size != l->size)
		return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "blob %s has %llu bytes, not %llu",
			       l->digest, (unsigned long long)size, (unsigned long long)l->size);
	return err_set(e, -EBADMSG, GRPC_DATA_LOSS, "the blob that came is %s, asked for was %s",
		       got, l->digest);
}

/* The list of checksums, beside the layer. */
static int sum_up(struct process *p, const struct contents *c, struct message *m)
{
	_cleanup_close_ int fd =
		store_make_file(p->set->store, p->set->v[p->i].out.name, "sums", &m->e);

	if (fd < 0)
		return fd;
	return sums_write(p->dirfd, c, fd, &m->used, m->sums, &m->e);
}

/* Unpacks, and reads to the stream's end: the layer's own digest is looked at. */
static int unpack_whole(struct process *p, struct unpack *u, struct stream *s, struct err *e)
{
	const struct layer *l = &p->set->v[p->i];
	char got[72];
	int r = unpack_layer(u, s, e);

	if (r == 0)
		r = stream_finish(s, got, e);
	if (r == 0 && l->diff_id && !streq(got, l->diff_id))
		r = err_set(e, -EBADMSG, GRPC_DATA_LOSS,
			    "it unpacks to %s, but the image's configuration says %s", got,
			    l->diff_id);
	return r;
}

/* Beside the layer too; one that would be too large is not left. */
static int finish_recipe(struct process *p, struct recipe_writer *w, struct message *m)
{
	int r = recipe_finish(w, m->recipe, &m->e);

	if (r == 0 && !*m->recipe)
		store_drop_file(p->set->store, p->set->v[p->i].out.name, "recipe");
	return r;
}

static int unpack_with_recipe(struct process *p, struct unpack *u, struct stream *s,
			      struct message *m)
{
	const struct layer *l = &p->set->v[p->i];
	_cleanup_close_ int fd = store_make_file(p->set->store, l->out.name, "recipe", &m->e);
	int r;

	if (fd < 0)
		return fd;
	u->recipe = recipe_new(fd);
	stream_tap(s, recipe_take, u->recipe);
	r = unpack_whole(p, u, s, &m->e);
	r = check_blob(l, s, r, &m->wrong_blob, &m->e);
	if (r == 0)
		r = finish_recipe(p, u->recipe, m);
	recipe_free(u->recipe);
	return r;
}

/* The blob of an artifact is never made again: its digest is of what was compressed. */
static int unpack_stream(struct process *p, struct stream *s, struct message *m)
{
	const struct layer *l = &p->set->v[p->i];
	struct unpack u = {.dirfd = p->dirfd, .lower = open_lower, .arg = p};
	int r;

	if (l->diff_id) {
		r = unpack_with_recipe(p, &u, s, m);
	} else {
		r = unpack_whole(p, &u, s, &m->e);
		r = check_blob(l, s, r, &m->wrong_blob, &m->e);
	}
	m->bytes = u.bytes;
	if (r == 0)
		r = sum_up(p, &u.contents, m);
	contents_fini(&u.contents);
	return r;
}

static int write_stream(struct process *p, struct stream *s, struct message *m)
{
	const struct layer *l = &p->set->v[p->i];
	struct contents c = {0};
	int r = artifact_write(p->dirfd, l->file, s, &c, &m->bytes, &m->e);

	r = check_blob(l, s, r, &m->wrong_blob, &m->e);
	if (r == 0)
		r = sum_up(p, &c, m);
	contents_fini(&c);
	return r;
}

static int make_from(struct process *p, int in, struct message *m)
{
	const struct layer *l = &p->set->v[p->i];
	struct stream *s;
	int r;

	if (l->file) {
		stream_open_raw(in, l->size, &s);
		return write_stream(p, s, m);
	}
	r = stream_open(in, l->size, l->digest != NULL, &s, &m->e);
	return r < 0 ? r : unpack_stream(p, s, m);
}

static void run_process(struct layer_set *set, size_t i, int talk, int in, int dirfd)
{
	struct process p = {.set = set, .i = i, .talk = talk, .dirfd = dirfd};
	struct message m = {0};
	const int keep[] = {STDERR_FILENO,	  talk, in, dirfd, set->store->tmp_fd,
			    set->store->layers_fd};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	worker_detach();
	m.r = confine_unpacker(keep, ARRAY_SIZE(keep), &m.e);
	if (m.r == 0)
		m.r = make_from(&p, in, &m);
	(void)!send(talk, &m, sizeof(m), MSG_NOSIGNAL);
	_exit(0);
}

/* --- around it --- */

/* Its name is known. */
static void init_layer(const struct layer_set *s, struct layer *l)
{
	l->size = UINT64_MAX;
	l->talk = l->data = -EBADF;
	l->state = store_has_layer(s->store, l->out.name) || store_has_made(s->store, l->out.name)
			   ? LAYER_HERE
			   : LAYER_WANTED;
}

void layer_set_init(struct layer_set *s, struct store *store, const struct strv *diff_ids)
{
	char id[72] = "";

	*s = (struct layer_set){.store = store, .n = diff_ids->n};
	s->v = xcalloc(s->n + 1, sizeof(*s->v));
	for (size_t i = 0; i < s->n; i++) {
		struct layer *l = &s->v[i];
		char parent[72];

		memcpy(parent, id, sizeof(parent));
		chain_next(parent, diff_ids->v[i], id);
		chain_name(id, l->out.name);
		l->diff_id = diff_ids->v[i];
		init_layer(s, l);
	}
}

void layer_set_init_artifact(struct layer_set *s, struct store *store, const struct manifest *m)
{
	*s = (struct layer_set){.store = store, .n = m->n_layers, .apart = true};
	s->v = xcalloc(s->n + 1, sizeof(*s->v));
	for (size_t i = 0; i < s->n; i++) {
		struct layer *l = &s->v[i];
		const char *file = artifact_file(&m->layers[i]);

		artifact_layer_name(&m->layers[i], l->out.name);
		l->file = file;
		init_layer(s, l);
		l->digest = m->layers[i].digest;
		l->size = m->layers[i].size;
	}
}

static int open_data(struct layer *l, int fd, int *ret_in, struct err *e)
{
	int p[2];

	if (fd >= 0) {
		*ret_in = fd;
		return 0;
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "make a pipe");
	fcntl(p[1], F_SETPIPE_SZ, LAYER_PIPE_BYTES); /* fewer turns; without it goes too */
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	*ret_in = p[0];
	l->data = p[1];
	return 0;
}

int layer_start(struct layer_set *s, size_t i, int fd, struct err *e)
{
	struct layer *l = &s->v[i];
	_cleanup_close_ int dirfd = -EBADF;
	int pair[2], in = -EBADF, r;

	r = store_make_layer(s->store, l->out.name, &dirfd, e);
	if (r == 0)
		r = open_data(l, fd, &in, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_errno(e, -errno, "socketpair");
	} else {
		l->talk = pair[0];
		l->pid = fork();
		if (l->pid == 0) {
			run_process(s, i, pair[1], in, dirfd);
		}
		if (l->pid < 0)
			r = err_errno(e, -errno, "fork");
		close(pair[1]);
	}
	if (fd < 0)
		close(in);
	l->state = LAYER_RUNNING;
	if (r < 0)
		layer_stop(s, i);
	return r;
}

static void reap(struct layer *l)
{
	if (l->pid > 0)
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	l->pid = 0;
	l->talk = fd_close(l->talk);
	l->data = fd_close(l->data);
	free(l->held);
	l->held = NULL;
	l->held_len = l->held_pos = 0;
	l->at_end = l->wants_lower = false;
}

void layer_stop(struct layer_set *s, size_t i)
{
	struct layer *l = &s->v[i];

	if (l->state != LAYER_RUNNING)
		return;
	if (l->pid > 0)
		kill(l->pid, SIGKILL);
	reap(l);
	store_drop_layer(s->store, l->out.name);
	l->state = LAYER_WANTED;
	l->wrong_blob = false;
}

void layer_set_fini(struct layer_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		layer_stop(s, i);
	free(s->v);
	*s = (struct layer_set){0};
}

/* --- feeding --- */

static ssize_t write_some(struct layer *l, const uint8_t *p, size_t n)
{
	ssize_t w;

	do
		w = write(l->data, p, n);
	while (w < 0 && errno == EINTR);
	if (w < 0)
		return errno == EAGAIN ? 0 : -errno;
	return w;
}

ssize_t layer_feed(struct layer *l, const void *p, size_t n)
{
	ssize_t w;

	if (l->data < 0)
		return -EPIPE;
	if (l->held)
		return 0;
	w = write_some(l, p, n);
	if (w < 0 || (size_t)w == n)
		return w;
	l->held_len = n - (size_t)w;
	l->held_pos = 0;
	l->held = xmemdup((const uint8_t *)p + w, l->held_len);
	return (ssize_t)n;
}

void layer_feed_end(struct layer *l)
{
	l->at_end = true;
	if (!l->held)
		l->data = fd_close(l->data);
}

static void flush(struct layer *l)
{
	ssize_t w;

	if (!l->held || l->data < 0)
		return;
	w = write_some(l, l->held + l->held_pos, l->held_len - l->held_pos);
	if (w > 0)
		l->held_pos += (size_t)w;
	if (w >= 0 && l->held_pos < l->held_len)
		return;
	free(l->held);
	l->held = NULL;
	if (w < 0 || l->at_end)
		l->data = fd_close(l->data);
}

/* --- serving --- */

unsigned layer_set_poll(const struct layer_set *s, struct pollfd *fds)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct layer *l = &s->v[i];

		if (l->state != LAYER_RUNNING)
			continue;
		fds[n++] = (struct pollfd){.fd = l->talk, .events = POLLIN};
		if (l->held)
			fds[n++] = (struct pollfd){.fd = l->data, .events = POLLOUT};
	}
	return n;
}

/* 1: it is done, 0: it goes on. */
static int take_message(struct layer *l, struct err *e)
{
	struct message m;
	ssize_t n = recv(l->talk, &m, sizeof(m), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof(m))
		return err_set(e, -EIO, GRPC_INTERNAL, "the process that unpacks it died");
	if (m.wants_lower) {
		l->wants_lower = true;
		return 0;
	}
	if (m.r < 0) {
		m.e.msg[sizeof(m.e.msg) - 1] = '\0';
		l->wrong_blob = m.wrong_blob;
		*e = m.e;
		return m.r;
	}
	l->out.bytes = m.bytes;
	l->out.used = m.used;
	memcpy(l->out.sums, m.sums, sizeof(m.sums));
	memcpy(l->out.recipe, m.recipe, sizeof(m.recipe));
	l->out.unpacked = true;
	return 1;
}

int layer_set_serve(struct layer_set *s, size_t *ret_failed, struct err *e)
{
	bool below = true; /* all that is below is there */

	for (size_t i = 0; i < s->n; i++) {
		struct layer *l = &s->v[i];
		int r;

		if (l->state == LAYER_RUNNING) {
			flush(l);
			r = take_message(l, e);
			if (r < 0) {
				*ret_failed = i;
				return r;
			}
			if (r > 0) {
				reap(l);
				l->state = LAYER_DONE;
				FAULT_POINT("worker.unpacked");
			} else if (l->wants_lower && below) {
				l->wants_lower = false;
				(void)!send(l->talk, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			}
		}
		below = below && (l->state == LAYER_HERE || l->state == LAYER_DONE);
	}
	return 0;
}

int layer_set_wait(struct layer_set *s, struct err *e)
{
	struct pollfd fds[2 * IMAGE_LAYERS_MAX + 1];
	unsigned n = layer_set_poll(s, fds);
	size_t failed;
	int r;

	fds[n++] = (struct pollfd){.fd = WORKER_DAEMON_FD, .events = POLLIN};
	if (poll(fds, n, -1) < 0 && errno != EINTR)
		return err_errno(e, -errno, "poll");
	r = worker_check(e);
	if (r == 0) {
		r = layer_set_serve(s, &failed, e);
		if (r < 0)
			err_wrap(e, "layer %zu", failed + 1);
	}
	return r;
}
