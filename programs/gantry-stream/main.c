/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry-stream: one client's connection to the streaming server, in a process that dies with it.
 * See ipc/stream.h for what it is given and asks for.
 */
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "confine.h"
#include "server.h"
#include "tls.h"

#define DAEMON_FD 3
#define CLIENT_FD 4
#define KEEPALIVE_S 30	       /* of silence before the peer is asked whether it is there */
#define KEEPALIVE_PROBES 6     /* without an answer: it is not */
#define TIMEOUT_MAX_S 31536000 /* a year */

struct arguments {
	struct server_options options;
	struct tls_config tls;
};

static bool parse_seconds(const char *s, uint64_t *ret_us)
{
	uint64_t v;

	if (!str_to_u64(s, &v) || v > TIMEOUT_MAX_S)
		return false;
	*ret_us = v ? v * USEC_PER_SEC : USEC_FOREVER;
	return true;
}

/* --tls-key and --tls-cert go together; the daemon's configuration is where they are checked. */
static bool parse(int argc, char **argv, struct arguments *a)
{
	static const struct option all[] = {
		{"tls-cert", required_argument, NULL, 'c'},
		{"tls-key", required_argument, NULL, 'k'},
		{"tls-client-ca", required_argument, NULL, 'a'},
		{"tls-min-version", required_argument, NULL, 'm'},
		{"idle-timeout", required_argument, NULL, 'i'},
		{"create-timeout", required_argument, NULL, 's'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", all, NULL)) >= 0) {
		if (c == 'c')
			a->tls.cert = optarg;
		else if (c == 'k')
			a->tls.key = optarg;
		else if (c == 'a')
			a->tls.client_ca = optarg;
		else if (c == 'm' && (streq(optarg, "1.2") || streq(optarg, "1.3")))
			a->tls.min_version = optarg;
		else if (!(c == 'i' && parse_seconds(optarg, &a->options.idle_timeout_us)) &&
			 !(c == 's' && parse_seconds(optarg, &a->options.create_timeout_us)))
			return false;
	}
	return optind == argc && !a->tls.cert == !a->tls.key;
}

static bool is_tcp(int fd)
{
	int domain = 0;
	socklen_t n = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
	       (domain == AF_INET || domain == AF_INET6);
}

/* Small frames go at once; a client whose machine has gone is noticed. */
static void tune(int fd)
{
	const int on = 1, idle = KEEPALIVE_S, probes = KEEPALIVE_PROBES;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static int run(const struct arguments *a, struct err *e)
{
	struct loop *l = NULL;
	struct server sv;
	struct tls *tls = NULL;
	int r;

	signal(SIGPIPE, SIG_IGN);
	fcntl(DAEMON_FD, F_SETFD, FD_CLOEXEC);
	fcntl(CLIENT_FD, F_SETFD, FD_CLOEXEC);
	if (is_tcp(CLIENT_FD)) {
		tune(CLIENT_FD);
		r = a->tls.cert ? tls_new(&a->tls, CLIENT_FD, &tls, e) : 0;
		if (r < 0)
			return r;
	}
	r = loop_new(&l);
	if (r < 0)
		return err_errno(e, r, "set up the event loop");
	r = confine_stream(e);
	if (r < 0)
		return r;
	r = server_open(&sv, l, DAEMON_FD, CLIENT_FD, tls, &a->options);
	if (r == 0)
		r = loop_run(l);
	server_close(&sv);
	loop_free(l);
	return r < 0 ? err_errno(e, r, "serve the client") : 0;
}

int main(int argc, char **argv)
{
	struct arguments a = {
		.options = {.create_timeout_us = SERVER_CREATE_TIMEOUT_S * USEC_PER_SEC,
			    .idle_timeout_us = SERVER_IDLE_TIMEOUT_S * USEC_PER_SEC}};
	struct err e = ERR_NULL;

	log_init("gantry-stream", LOG_LEVEL_INFO);
	if (!parse(argc, argv, &a)) {
		log_error("gantry-stream is started by gantryd");
		return 2;
	}
	if (run(&a, &e) < 0) {
		log_error("%s", e.msg);
		return 1;
	}
	return 0;
}
