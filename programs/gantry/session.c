/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of exec and attach: see session.h. */
#include "session.h"

#include <limits.h>
#include <poll.h>

#include "terminal.h"
#include "wire/json.h"

#define INPUT_MAX (32 * KIB)  /* bytes of one message of input */
#define STATUS_MAX (64 * KIB) /* bytes of a Status */
#define KEY_DETACH_1 0x10     /* ctrl-p */
#define KEY_DETACH_2 0x11     /* ctrl-q */

enum { FD_STREAM, FD_INPUT, FD_OUTPUT, FD_CANCEL, FD_SIZE, N_FDS };

/* --- what comes --- */

/* metav1.Status, as the kubelet puts the end of a command into it. */
static void parse_status(struct session *s)
{
	_cleanup_jv_ jv *doc = NULL;
	struct err e = ERR_NULL;
	uint64_t code = 0;
	jv *causes;

	s->ended = true;
	s->exit_code = -1;
	if (jv_parse(str_or_empty(s->status.s), s->status.len, STATUS_MAX, "Status", &doc, &e) <
	    0) {
		s->message = arena_strdup(&s->cli->arena, e.msg);
		return;
	}
	s->message = arena_strdup(&s->cli->arena, jv_string(doc, "message", "it failed"));
	if (streq(jv_string(doc, "status", ""), "Success"))
		s->exit_code = 0;
	if (!streq(jv_string(doc, "reason", ""), "NonZeroExitCode"))
		return;
	causes = jv_get(doc, "details.causes");
	for (size_t i = 0; i < jv_len(causes); i++)
		if (streq(jv_string(jv_at(causes, i), "reason", ""), "ExitCode") &&
		    str_to_u64(jv_string(jv_at(causes, i), "message", ""), &code))
			s->exit_code = (int)(code & 0xff);
}

static int take_status(struct session *s, struct err *e)
{
	if (s->status.len + s->piece.n > STATUS_MAX)
		return err_set(e, -EPROTO, GRPC_INTERNAL, "the session's status is too long");
	strbuf_add(&s->status, s->piece.data, s->piece.n);
	s->piece.n = 0;
	if (s->piece.end && s->status.len > 0)
		parse_status(s);
	return 0;
}

static int output_fd(const struct session *s)
{
	return s->piece.channel == CHANNEL_STDERR ? STDERR_FILENO : STDOUT_FILENO;
}

/* Takes pieces up to one that has to be written. */
static int take_pieces(struct session *s, struct err *e)
{
	int r = 0;

	while (r == 0 && s->piece.n == 0 && (r = channels_next(&s->ch, &s->piece, e)) == 1) {
		s->established = true;
		r = 0;
		if (s->piece.channel == CHANNEL_ERROR)
			r = take_status(s, e);
		else if (s->piece.channel != CHANNEL_STDOUT && s->piece.channel != CHANNEL_STDERR)
			s->piece.n = 0; /* the end of one; or of a protocol to come */
	}
	return r;
}

/* A pipe that has room has it for PIPE_BUF bytes: so no write waits. */
static int write_piece(struct session *s, struct err *e)
{
	ssize_t n = write(output_fd(s), s->piece.data, MIN(s->piece.n, (size_t)PIPE_BUF));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0 && errno == EPIPE)
		return err_set(e, -EPIPE, GRPC_ABORTED, "nobody reads the output");
	if (n < 0)
		return err_errno(e, -errno, "write the output");
	s->piece.data += n;
	s->piece.n -= (size_t)n;
	return 0;
}

/* --- what goes --- */

/* Passes input on but for the keys; true: they came. */
static bool send_input(struct session *s, const uint8_t *p, size_t n)
{
	uint8_t kept[INPUT_MAX + 1]; /* the key of before may be one more */
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (s->prefix && p[i] == KEY_DETACH_2)
			return true;
		if (s->prefix)
			kept[k++] = KEY_DETACH_1;
		s->prefix = s->raw && s->detach_keys && p[i] == KEY_DETACH_1;
		if (!s->prefix)
			kept[k++] = p[i];
	}
	if (k > 0)
		channels_send(&s->ch, CHANNEL_STDIN, kept, k);
	return false;
}

static int read_input(struct session *s, struct err *e)
{
	uint8_t buf[INPUT_MAX];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0 && errno != EIO) /* a terminal that has gone */
		return err_errno(e, -errno, "read standard input");
	if (n <= 0) {
		s->input = false;
		channels_send_end(&s->ch, CHANNEL_STDIN);
		return 0;
	}
	s->detached = send_input(s, buf, (size_t)n);
	return 0;
}

static void send_size(struct session *s)
{
	unsigned width, height;

	terminal_size_seen();
	if (!terminal_size(&width, &height))
		return;
	/* Programs draw their screen anew when its size has changed. */
	if (s->redraw)
		channels_send_size(&s->ch, width, height + 1);
	s->redraw = false;
	channels_send_size(&s->ch, width, height);
}

/* --- moving --- */

static int signal_came(struct session *s, struct err *e)
{
	if (s->on_signal)
		return s->on_signal(s, e);
	return err_set(e, -ECANCELED, GRPC_CANCELLED, "interrupted");
}

static int wait_ms(const struct session *s)
{
	uint64_t now = clock_mono_us();

	if (!s->deadline)
		return -1;
	return now >= s->deadline
		       ? 0
		       : (int)MIN((s->deadline - now) / USEC_PER_MS + 1, (uint64_t)INT32_MAX);
}

static int wait_for_events(struct session *s, struct pollfd p[N_FDS], struct err *e)
{
	bool writing = s->piece.n > 0, sending = channels_queued(&s->ch) > 0;
	bool reading = !writing && channels_queued(&s->ch) < CHANNEL_OUT_MAX;

	p[FD_STREAM] = (struct pollfd){
		.fd = reading || sending ? s->ch.fd : -1,
		.events = (short)((reading ? POLLIN : 0) | (sending ? POLLOUT : 0))};
	p[FD_INPUT] = (struct pollfd){
		.fd = s->input && !sending && s->established ? STDIN_FILENO : -1, .events = POLLIN};
	p[FD_OUTPUT] = (struct pollfd){.fd = writing ? output_fd(s) : -1, .events = POLLOUT};
	p[FD_CANCEL] = (struct pollfd){.fd = s->cli->cancel_fd, .events = POLLIN};
	p[FD_SIZE] = (struct pollfd){.fd = s->tty ? terminal_watch_size() : -1, .events = POLLIN};
	if (poll(p, N_FDS, wait_ms(s)) < 0 && errno != EINTR)
		return err_errno(e, -errno, "poll");
	if (s->deadline && clock_mono_us() >= s->deadline)
		return err_set(e, -ETIMEDOUT, GRPC_DEADLINE_EXCEEDED,
			       "the limit of time is over (DEADLINE_EXCEEDED)");
	return 0;
}

/* One round: waits, and moves what can be moved. */
static int turn(struct session *s, struct err *e)
{
	struct pollfd p[N_FDS] = {0};
	int r = wait_for_events(s, p, e);

	if (r == 0 && p[FD_CANCEL].revents)
		r = signal_came(s, e);
	if (r == 0 && p[FD_SIZE].revents)
		send_size(s);
	if (r == 0 && p[FD_INPUT].revents)
		r = read_input(s, e);
	if (r == 0 && p[FD_OUTPUT].revents)
		r = write_piece(s, e);
	if (r == 0 && p[FD_STREAM].revents & (POLLIN | POLLHUP | POLLERR))
		r = channels_read(&s->ch, e);
	if (r == -EAGAIN)
		r = 0;
	if (r == 0)
		r = take_pieces(s, e);
	return r < 0 ? r : channels_flush(&s->ch, e);
}

static int lost(const struct session *s, struct err *e)
{
	return err_set(e, -ECONNRESET, GRPC_UNAVAILABLE, "the session was lost%s%s",
		       s->ch.reason[0] ? ": " : "", s->ch.reason);
}

/* The end of a file would never reach the command: a terminal knows none. */
int session_check_terminal(bool input, bool tty, struct err *e)
{
	if (input && tty && !isatty(STDIN_FILENO))
		return err_invalid(e,
				   "-t with -i needs a terminal as standard input; leave -t out");
	return 0;
}

int session_open(struct session *s, const char *url, struct err *e)
{
	int r = channels_open(s->cli, url, NULL, &s->ch, e);

	s->exit_code = -1;
	s->deadline = s->limit_us ? clock_mono_us() + s->limit_us : 0;
	if (r < 0)
		return r;
	if (s->tty) {
		terminal_watch_size();
		send_size(s);
	}
	r = take_pieces(s, e);
	while (r == 0 && !s->established && !s->ch.closed)
		r = turn(s, e);
	if (r == 0 && !s->established)
		r = lost(s, e);
	if (r < 0)
		session_close(s);
	return r;
}

static int move_all(struct session *s, struct err *e)
{
	int r = 0;

	while (r == 0 && !s->detached && (!s->ch.closed || s->piece.n > 0))
		r = turn(s, e);
	if (r == 0 && !s->detached && !s->ended)
		r = lost(s, e);
	return r;
}

int session_run(struct session *s, struct err *e)
{
	int r = 0;

	s->raw = s->tty && s->input && isatty(STDIN_FILENO);
	if (s->raw)
		r = terminal_raw(e);
	if (r == 0)
		r = move_all(s, e);
	terminal_restore();
	return r;
}

void session_close(struct session *s)
{
	struct err e = ERR_NULL;

	if (s->ch.fd >= 0) {
		channels_send_close(&s->ch);
		(void)channels_flush(&s->ch, &e);
	}
	channels_fini(&s->ch);
	strbuf_fini(&s->status);
}
