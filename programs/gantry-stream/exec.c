/* SPDX-License-Identifier: Apache-2.0 */
/* The streams of a command or a container: see exec.h. */
#include "exec.h"

#include <stdio.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/mem.h"
#include "duct.h"
#include "wire/json.h"

#define EXEC_SIZE_WAIT (50 * USEC_PER_MS) /* for a terminal's first size */
#define RESIZE_MAX 256			  /* bytes of one size in JSON */
#define FDS_MAX 5			  /* of STREAM_START's answer */

enum state {
	WAITING,  /* for the client's streams */
	STARTING, /* the daemon has been asked */
	RUNNING,
	ENDING, /* the client is to be told */
	ENDED,
};

struct exec {
	struct server *sv;
	enum state state;
	bool attach, tty, in, out, err;
	struct chan *chans[CHAN_DATA]; /* by kind; NULL: none, or it is over */
	bool had[CHAN_DATA];
	struct ducts ducts;
	struct duct input, output, errors;
	int tty_fd;
	struct ipc_conn control;
	struct call start;
	struct loop_timer timer; /* for the streams */
	struct loop_defer ready; /* not before the last of them has been answered */
	struct strbuf resize;
	struct winsize size;
	bool has_size, waited; /* for the first size, as long as it may take */
	uint64_t exit_code;
	struct err failure; /* errnum 0: there is an exit code */
};

/* --- the last word --- */

static void put_status(const struct exec *x, struct strbuf *b)
{
	struct jw w = JW_INIT(b);

	jw_object_begin(&w);
	jw_key_object(&w, "metadata");
	jw_object_end(&w);
	jw_key_string(&w, "status", x->failure.errnum || x->exit_code ? "Failure" : "Success");
	if (x->failure.errnum) {
		jw_key(&w, "message");
		jw_string(&w, x->failure.msg);
		jw_key_string(&w, "reason", "InternalError");
		jw_key_int(&w, "code", 500);
	} else if (x->exit_code) {
		char code[24], text[64];

		snprintf(code, sizeof(code), "%llu", (unsigned long long)x->exit_code);
		snprintf(text, sizeof(text), "command terminated with exit code %s", code);
		jw_key_string(&w, "message", text);
		jw_key_string(&w, "reason", "NonZeroExitCode");
		jw_key_object(&w, "details");
		jw_key_array(&w, "causes");
		jw_object_begin(&w);
		jw_key_string(&w, "reason", "ExitCode");
		jw_key_string(&w, "message", code);
		jw_object_end(&w);
		jw_array_end(&w);
		jw_object_end(&w);
	}
	jw_object_end(&w);
}

/* Before version 4 a text says what failed, and nothing what did not. */
static void put_last_word(const struct exec *x, struct strbuf *b)
{
	if (x->sv->version >= 4)
		put_status(x, b);
	else if (x->failure.errnum)
		strbuf_adds(b, x->failure.msg);
	else if (x->exit_code)
		strbuf_addf(b, "command terminated with exit code %llu",
			    (unsigned long long)x->exit_code);
}

static void send_end(struct chan *c)
{
	if (c)
		mux_send(c, NULL, 0, true);
}

static bool drained(const struct duct *d)
{
	return d->fd < 0 || !d->reads || d->out_over;
}

/* Everything that came out is on its way. */
static void try_end(struct exec *x)
{
	struct chan *error = x->chans[CHAN_ERROR];
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	if (x->state != ENDING || !drained(&x->output) || !drained(&x->errors))
		return;
	put_last_word(x, &b);
	if (error && mux_room(error) < b.len)
		return; /* the client does not read: its room comes */
	x->state = ENDED;
	send_end(x->chans[CHAN_STDOUT]);
	send_end(x->chans[CHAN_STDERR]);
	if (error)
		mux_send(error, b.s, b.len, true);
	send_end(x->chans[CHAN_STDIN]);
	send_end(x->chans[CHAN_RESIZE]);
	server_finish(x->sv);
}

/* What has come out is sent, and then how it ended. */
static void conclude(struct exec *x)
{
	x->state = ENDING;
	duct_drain(&x->output);
	duct_drain(&x->errors);
	try_end(x);
}

static void fail(struct exec *x, const struct err *e)
{
	if (x->state >= ENDING)
		return;
	x->failure = *e;
	err_wrap(&x->failure, x->attach ? "error attaching to container"
					: "error executing command in container");
	if (x->sv->version >= 4)
		err_wrap(&x->failure, "Internal error occurred");
	conclude(x);
}

static void fail_text(struct exec *x, const char *text)
{
	struct err e = ERR_NULL;

	err_set(&e, -EIO, GRPC_INTERNAL, "%s", text);
	fail(x, &e);
}

/* --- descriptors --- */

static void on_out_end(struct duct *d, int reason)
{
	send_end(d->to);
	try_end(container_of(d->all, struct exec, ducts));
}

static void on_in_end(struct duct *d, int reason)
{
	struct exec *x = container_of(d->all, struct exec, ducts);
	struct ipc_out o;

	if (reason < 0 || !x->control.loop)
		return;
	ipc_out_init(&o, STREAM_INPUT_END, 0);
	ipc_conn_send(&x->control, &o);
}

static const struct duct_user duct_user = {.out_end = on_out_end, .in_end = on_in_end};

/* --- the terminal's size --- */

static void apply_size(struct exec *x)
{
	if (x->has_size && x->tty_fd >= 0)
		ioctl(x->tty_fd, TIOCSWINSZ, &x->size);
}

static void on_ready(struct loop_defer *d);

static void take_size(struct exec *x)
{
	_cleanup_jv_ jv *v = NULL;
	int64_t width, height;

	if (jv_parse(x->resize.s, x->resize.len, RESIZE_MAX, "size", &v, NULL) < 0)
		return;
	width = jv_int(v, "Width", -1);
	height = jv_int(v, "Height", -1);
	if (width < 0 || height < 0 || width > UINT16_MAX || height > UINT16_MAX)
		return;
	x->size.ws_col = (unsigned short)width;
	x->size.ws_row = (unsigned short)height;
	x->has_size = true;
	apply_size(x);
	if (x->state == WAITING)
		loop_defer(x->sv->loop, &x->ready, on_ready);
}

/* Objects after one another, {"Width":80,"Height":24}: each ends with its brace. */
static void on_resize(struct exec *x, const uint8_t *p, size_t n)
{
	for (; n; n--, p++) {
		if (x->resize.len == RESIZE_MAX)
			strbuf_reset(&x->resize);
		strbuf_addc(&x->resize, (char)*p);
		if (*p != '}')
			continue;
		take_size(x);
		strbuf_reset(&x->resize);
	}
}

/* --- the command --- */

static void on_control(struct ipc_conn *conn, struct ipc_in *in)
{
	struct exec *x = container_of(conn, struct exec, control);
	struct err e = ERR_NULL;

	if (in->type != STREAM_END || x->state != RUNNING)
		return;
	if (ipc_get_u64(in, IPC_TAG_CODE, GRPC_OK) != GRPC_OK) {
		ipc_reply_error(in, &e);
		fail(x, &e);
		return;
	}
	x->exit_code = x->attach ? 0 : ipc_get_u64(in, STREAM_TAG_EXIT_CODE, 0);
	conclude(x);
}

static void on_control_gone(struct ipc_conn *conn, int reason)
{
	struct exec *x = container_of(conn, struct exec, control);

	if (x->state == RUNNING)
		fail_text(x, "its monitor has gone");
}

static int take_fds(struct exec *x, struct ipc_in *in)
{
	unsigned want = 1u + x->in + x->out + x->err + x->tty, k = 0;
	int r;

	if (in->n_fds != want)
		return -EBADMSG;
	r = ipc_conn_open(&x->control, x->sv->loop, TAKE_FD(in->fds[k++]), on_control,
			  on_control_gone);
	x->state = RUNNING;
	if (x->tty) /* before any input: what is typed next shall find the size that was said */
		x->tty_fd = TAKE_FD(in->fds[want - 1]);
	apply_size(x);
	if (x->in && r == 0)
		r = duct_open(&x->input, TAKE_FD(in->fds[k++]), false, true);
	if (x->out && r == 0)
		r = duct_open(&x->output, TAKE_FD(in->fds[k++]), true, false);
	if (x->err && r == 0)
		r = duct_open(&x->errors, TAKE_FD(in->fds[k++]), true, false);
	return r;
}

/*
 * Of WebSocket all channels are there from the beginning; one hears that they are, once the session
 * is: who attaches before a container is started knows from it that nothing will be missed.
 */
static void greet(struct exec *x)
{
	static const enum chan_kind kinds[] = {CHAN_STDOUT, CHAN_STDERR, CHAN_ERROR};

	for (size_t i = 0; x->sv->websocket && i < ARRAY_SIZE(kinds); i++)
		if (x->chans[kinds[i]]) {
			channels_greet(x->chans[kinds[i]]);
			return;
		}
}

static void on_started(struct call *c, struct ipc_in *in, const struct err *e)
{
	struct exec *x = container_of(c, struct exec, start);

	if (x->state != STARTING)
		return;
	if (!in) {
		fail(x, e);
		return;
	}
	greet(x);
	if (take_fds(x, in) < 0)
		fail_text(x, "its descriptors cannot be used");
}

static void on_waited(struct loop_timer *t)
{
	struct exec *x = container_of(t, struct exec, timer);

	x->waited = true;
	loop_defer(x->sv->loop, &x->ready, on_ready);
}

/* Clients say a terminal's size at once: a command finds it from its first moment on. */
static bool wants_size(struct exec *x)
{
	if (!x->tty || x->attach || !x->had[CHAN_RESIZE] || x->has_size || x->waited)
		return false;
	loop_timer_set(x->sv->loop, &x->timer, clock_mono_us() + EXEC_SIZE_WAIT, on_waited);
	return true;
}

static void on_ready(struct loop_defer *d)
{
	struct exec *x = container_of(d, struct exec, ready);
	struct ipc_out o;

	if (x->state != WAITING || !x->had[CHAN_ERROR] || (x->in && !x->had[CHAN_STDIN]) ||
	    (x->out && !x->had[CHAN_STDOUT]) || (x->err && !x->had[CHAN_STDERR]) ||
	    (x->tty && x->sv->version >= 3 && !x->had[CHAN_RESIZE]))
		return;
	if (wants_size(x))
		return;
	x->state = STARTING;
	loop_timer_clear(&x->timer);
	ipc_out_init(&o, STREAM_START, x->start.seq = ++x->sv->last_seq);
	if (x->has_size && !x->attach) {
		ipc_put_u64(&o, STREAM_TAG_WIDTH, x->size.ws_col);
		ipc_put_u64(&o, STREAM_TAG_HEIGHT, x->size.ws_row);
	}
	server_call(x->sv, &x->start, &o, on_started);
}

/* --- the client's streams --- */

static int on_open(struct mux *m, struct chan *c)
{
	struct exec *x = m->session;

	if (c->kind == CHAN_UNKNOWN || c->kind == CHAN_DATA || x->had[c->kind])
		return -EINVAL;
	x->had[c->kind] = true;
	x->chans[c->kind] = c;
	if (c->kind == CHAN_STDIN)
		x->input.from = c;
	if (c->kind == CHAN_STDOUT)
		x->output.to = c;
	if (c->kind == CHAN_STDERR)
		x->errors.to = c;
	loop_defer(x->sv->loop, &x->ready, on_ready);
	return 0;
}

static void on_data(struct mux *m, struct chan *c, const uint8_t *p, size_t n)
{
	struct exec *x = m->session;

	if (c == x->chans[CHAN_STDIN] && x->in && x->state < ENDED) {
		duct_feed(&x->input, p, n);
		return;
	}
	if (c == x->chans[CHAN_RESIZE] && x->tty)
		on_resize(x, p, n);
	mux_taken(c, n);
}

static void on_end(struct mux *m, struct chan *c)
{
	struct exec *x = m->session;

	if (c == x->chans[CHAN_STDIN])
		duct_end(&x->input);
}

static void on_closed(struct mux *m, struct chan *c)
{
	struct exec *x = m->session;

	if (c->kind < CHAN_DATA && x->chans[c->kind] == c)
		x->chans[c->kind] = NULL;
	duct_forget(&x->input, c);
	duct_forget(&x->output, c);
	duct_forget(&x->errors, c);
}

static void on_room(struct mux *m)
{
	struct exec *x = m->session;

	ducts_room(&x->ducts);
	try_end(x);
}

static void on_leave(struct mux *m)
{
	server_finish(((struct exec *)m->session)->sv);
}

static const struct mux_user mux_user = {
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
	.room = on_room,
	.leave = on_leave,
};

/* --- the session --- */

static void session_room(struct server *sv)
{
	on_room(sv->mux);
}

static void session_idle(struct server *sv)
{
	fail_text(sv->session, "the connection was idle for too long");
	server_finish(sv);
}

/* It has all that it needs. */
static void session_orphaned(struct server *sv)
{
	(void)sv;
}

static void session_stop(struct server *sv)
{
	struct exec *x = sv->session;

	x->state = ENDED;
	server_uncall(&x->start);
	loop_timer_clear(&x->timer);
	loop_defer_cancel(&x->ready);
	ipc_conn_close(&x->control);
	duct_close(&x->input);
	duct_close(&x->output);
	duct_close(&x->errors);
	x->tty_fd = fd_close(x->tty_fd);
}

static void session_free(struct server *sv)
{
	struct exec *x = sv->session;

	session_stop(sv);
	strbuf_fini(&x->resize);
	free(x);
}

static const struct session_ops session_ops = {.room = session_room,
					       .idle = session_idle,
					       .orphaned = session_orphaned,
					       .stop = session_stop,
					       .free = session_free};

static void on_timeout(struct loop_timer *t)
{
	struct exec *x = container_of(t, struct exec, timer);

	fail_text(x, "the client has not made its streams in time");
	server_finish(x->sv);
}

static void make_channels(struct exec *x)
{
	static const enum chan_kind kinds[] = {CHAN_STDIN, CHAN_STDOUT, CHAN_STDERR, CHAN_ERROR,
					       CHAN_RESIZE};
	const bool wanted[] = {x->in, x->out, x->err, true, true};

	for (uint32_t id = 0; id < ARRAY_SIZE(kinds); id++) {
		struct chan *c;

		if (!wanted[id])
			continue;
		c = mux_add(x->sv->mux, id);
		c->kind = kinds[id];
		on_open(x->sv->mux, c);
	}
}

void exec_begin(struct server *sv, const struct ipc_in *in)
{
	struct exec *x = xcalloc(1, sizeof(*x));

	x->sv = sv;
	x->attach = sv->kind == STREAM_ATTACH;
	x->tty = ipc_get_u64(in, STREAM_TAG_TTY, 0);
	x->in = ipc_get_u64(in, STREAM_TAG_STDIN, 0);
	x->out = ipc_get_u64(in, STREAM_TAG_STDOUT, 0);
	x->err = ipc_get_u64(in, STREAM_TAG_STDERR, 0) && !x->tty;
	x->tty_fd = -EBADF;
	list_init(&x->start.link);
	ducts_init(&x->ducts, sv->loop, &sv->client, &duct_user);
	duct_init(&x->input, &x->ducts);
	duct_init(&x->output, &x->ducts);
	duct_init(&x->errors, &x->ducts);
	sv->session = x;
	sv->ops = &session_ops;
	sv->mux->user = &mux_user;
	sv->mux->session = x;
	if (sv->websocket)
		make_channels(x);
	loop_timer_set(sv->loop, &x->timer, clock_mono_us() + sv->options.create_timeout_us,
		       on_timeout);
}
