/* SPDX-License-Identifier: Apache-2.0 */
/* The node's own credentials: see credentials.h. */
#include "credentials.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "worker.h"

#define NOT_FOUND_TEXT "credentials not found in native keychain" /* the protocol's words */

enum { ASK = 16 }; /* HOST PATH -> [HELPER TEXT] [USERNAME PASSWORD AUTH IDENTITY REGISTRY] */
enum {
	TAG_HOST = 16,
	TAG_PATH,
	TAG_HELPER,
	TAG_TEXT,
	TAG_USERNAME,
	TAG_PASSWORD,
	TAG_AUTH,
	TAG_IDENTITY,
	TAG_REGISTRY,
};

/* The worker's end. */
static int broker_fd = -EBADF;
static pid_t broker_pid;

/* --- the process beside the worker --- */

struct broker {
	int fd;
	const char *file;
	struct strv allowed; /* hosts that this pull may ask */
};

/* A program's path, owned; NULL: there is none. */
static char *find_helper(const char *name)
{
	_cleanup_free_ char *dirs = xasprintf("%s:/usr/local/bin:/usr/bin:/bin",
					      getenv("PATH") ? getenv("PATH") : "/usr/local/sbin");
	char *save = NULL;

	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		char *full = xasprintf("%s/docker-credential-%s", d, name);

		if (*d == '/' && access(full, X_OK) == 0)
			return full;
		free(full);
	}
	return NULL;
}

/* The first line of what a failed helper said, where a person can read it. */
static void put_reason(const struct spawn_result *res, struct strbuf *to)
{
	const struct strbuf *b = res->out.len ? &res->out : &res->err;
	size_t n = 0;

	while (n < b->len && n < CREDENTIALS_MESSAGE_MAX && b->s[n] >= ' ' && b->s[n] <= '~')
		n++;
	if (n)
		strbuf_addf(to, ": %.*s", (int)n, b->s);
}

static int judge(const char *helper, const struct spawn_result *res, struct err *e)
{
	_cleanup_strbuf_ struct strbuf reason = STRBUF_NULL;

	if (res->cancelled)
		return err_set(e, -ECANCELED, GRPC_CANCELLED, "cancelled");
	if (res->timed_out)
		return err_set(e, -ETIMEDOUT, GRPC_UNAUTHENTICATED,
			       "docker-credential-%s did not end within %d seconds", helper,
			       CREDENTIALS_HELPER_S);
	if (res->truncated)
		return err_set(e, -EFBIG, GRPC_UNAUTHENTICATED,
			       "docker-credential-%s printed more than %u bytes", helper,
			       CREDENTIALS_OUTPUT_MAX);
	if (res->status == 0)
		return 0;
	if (res->out.len && strstr(res->out.s, NOT_FOUND_TEXT))
		return -ENOENT;
	put_reason(res, &reason);
	return err_set(e, -EIO, GRPC_UNAUTHENTICATED,
		       "docker-credential-%s failed with status %d%s", helper, res->status,
		       str_or_empty(reason.s));
}

/* 0: its output is in the reply, -ENOENT: it knows of none. */
static int run_helper(const struct broker *b, const struct docker_entry *d, struct ipc_out *reply,
		      struct err *e)
{
	_cleanup_free_ char *path = find_helper(d->helper);
	const char *argv[] = {path, "get", NULL};
	struct spawn sp = SPAWN_INIT;
	struct spawn_result res = {0};
	int r;

	if (!path)
		return err_set(e, -ENOEXEC, GRPC_UNAUTHENTICATED,
			       "docker-credential-%s is not in PATH", d->helper);
	sp.file = path;
	sp.argv = argv;
	sp.death_signal = SIGKILL;
	sp.cancel_fd = b->fd; /* nothing more is asked before the answer */
	r = spawn_run(&sp, d->server, strlen(d->server), CREDENTIALS_HELPER_S * USEC_PER_SEC,
		      CREDENTIALS_OUTPUT_MAX, &res, e);
	if (r == 0)
		r = judge(d->helper, &res, e);
	if (r == 0) {
		ipc_put_str(reply, TAG_HELPER, d->helper);
		ipc_put_bytes(reply, TAG_TEXT, str_or_empty(res.out.s), res.out.len);
	}
	spawn_result_fini(&res);
	return r;
}

static int answer(const struct broker *b, const struct ipc_in *in, struct ipc_out *reply,
		  struct err *e)
{
	const char *host = str_or_empty(ipc_get_str(in, TAG_HOST));
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL;
	struct docker_entry d = {0};
	int r;

	if (in->type != ASK || !strv_contains(&b->allowed, host))
		return err_invalid(e, "%s is not of this pull", host);
	r = fs_read(AT_FDCWD, b->file, DOCKER_CONFIG_MAX, &text);
	if (r == -ENOENT)
		return 0;
	if (r == -EFBIG)
		return err_invalid(e, "%s is longer than %u bytes", b->file, DOCKER_CONFIG_MAX);
	if (r < 0)
		return err_errno(e, r, "read %s", b->file);
	r = docker_config_find(str_or_empty(text.s), text.len, b->file, host,
			       str_or_empty(ipc_get_str(in, TAG_PATH)), &d, e);
	if (r == 0 && d.helper)
		r = run_helper(b, &d, reply, e);
	else if (r == 0)
		r = -ENOENT;
	if (r == -ENOENT) {
		ipc_put_str(reply, TAG_USERNAME, d.own.username);
		ipc_put_str(reply, TAG_PASSWORD, d.own.password);
		ipc_put_str(reply, TAG_AUTH, d.own.auth);
		ipc_put_str(reply, TAG_IDENTITY, d.own.identity_token);
		ipc_put_str(reply, TAG_REGISTRY, d.own.registry_token);
		r = 0;
	}
	docker_entry_fini(&d);
	return r;
}

static void allow(struct broker *b, const struct ipc_in *request)
{
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;
	struct hosts *h = xcalloc(1, sizeof(*h));

	if (reference_parse(str_or_empty(ipc_get_str(request, WORKER_TAG_REFERENCE)), &ref, NULL) ==
	    0) {
		strv_add(&b->allowed, ref.host);
		if (hosts_find(str_or_empty(ipc_get_str(request, WORKER_TAG_HOSTS_DIR)), ref.host,
			       h, NULL) == 0)
			for (size_t i = 0; i < h->n; i++)
				strv_take(&b->allowed, host_authority(h->v[i].url));
	}
	hosts_fini(h);
	free(h);
}

__attribute__((noreturn)) static void serve(int fd, const struct ipc_in *request)
{
	struct broker b = {.fd = fd, .file = ipc_get_str(request, WORKER_TAG_AUTH_FILE)};

	worker_detach(); /* the worker's end is its alone */
	allow(&b, request);
	for (;;) {
		_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
		struct ipc_out reply, failure;
		struct err e = ERR_NULL;
		int r = ipc_recv(fd, &in);

		if (r < 0)
			_exit(0);
		ipc_out_reply(&reply, in.seq, NULL);
		r = answer(&b, &in, &reply, &e);
		if (r < 0) {
			ipc_out_fini(&reply);
			ipc_out_reply(&failure, in.seq, &e);
			ipc_send(fd, &failure);
		} else {
			ipc_send(fd, &reply);
		}
	}
}

/* --- the worker's side --- */

int credentials_start(const struct ipc_in *request, struct err *e)
{
	const char *file = str_or_empty(ipc_get_str(request, WORKER_TAG_AUTH_FILE));
	int pair[2];

	if (!*file || access(file, F_OK) < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "socketpair");
	broker_pid = fork();
	if (broker_pid == 0) {
		close(pair[0]);
		serve(pair[1], request);
	}
	close(pair[1]);
	broker_fd = pair[0];
	return broker_pid < 0 ? err_errno(e, -errno, "fork") : 0;
}

void credentials_end(void)
{
	broker_fd = fd_close(broker_fd);
	if (broker_pid > 0)
		while (waitpid(broker_pid, NULL, 0) < 0 && errno == EINTR)
			;
	broker_pid = 0;
}

static char *taken(const struct ipc_in *in, uint16_t tag)
{
	const char *s = ipc_get_str(in, tag);

	return str_empty(s) ? NULL : xstrdup(s);
}

static int read_answer(const struct ipc_in *in, struct credentials *ret, struct err *e)
{
	const char *helper = ipc_get_str(in, TAG_HELPER);
	const void *text;
	size_t n;
	int r = ipc_reply_error(in, e);

	if (r < 0)
		return r;
	if (helper && ipc_get_bytes(in, TAG_TEXT, &text, &n))
		return docker_helper_answer(text, n, helper, ret, e);
	*ret = (struct credentials){.username = taken(in, TAG_USERNAME),
				    .password = taken(in, TAG_PASSWORD),
				    .auth = taken(in, TAG_AUTH),
				    .identity_token = taken(in, TAG_IDENTITY),
				    .registry_token = taken(in, TAG_REGISTRY)};
	return ret->username || ret->auth || ret->identity_token || ret->registry_token ? 0
											: -ENOENT;
}

int credentials_get(struct http *h, const char *host, const char *path, struct credentials *ret,
		    struct err *e)
{
	_cleanup_ipc_in_ struct ipc_in in = IPC_IN_NULL;
	struct ipc_out o;
	int r;

	if (broker_fd < 0)
		return -ENOENT;
	ipc_out_init(&o, ASK, 1);
	ipc_put_str(&o, TAG_HOST, host);
	ipc_put_str(&o, TAG_PATH, path);
	r = ipc_send(broker_fd, &o);
	if (r == 0) {
		r = http_await(h, broker_fd, e);
		if (r < 0)
			return r;
		r = ipc_recv(broker_fd, &in);
	}
	if (r < 0)
		return err_errno(e, r, "ask for the node's credentials for %s", host);
	r = read_answer(&in, ret, e);
	return r < 0 && r != -ENOENT ? err_wrap(e, "credentials for %s", host) : r;
}
