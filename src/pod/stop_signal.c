/* SPDX-License-Identifier: Apache-2.0 */
/* Names of signals: see stop_signal.h. */
#include "pod/stop_signal.h"

#include <signal.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

static const struct {
	const char *name;
	int number;
} signals[] = {
	{"HUP", SIGHUP},       {"INT", SIGINT},	    {"QUIT", SIGQUIT}, {"ILL", SIGILL},
	{"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"IOT", SIGABRT},  {"BUS", SIGBUS},
	{"FPE", SIGFPE},       {"KILL", SIGKILL},   {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},
	{"USR2", SIGUSR2},     {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
	{"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CLD", SIGCHLD},  {"CONT", SIGCONT},
	{"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},
	{"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
	{"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"POLL", SIGIO},
	{"PWR", SIGPWR},       {"SYS", SIGSYS},	    {"RTMIN", 34},     {"RTMAX", 64},
};

/* "SIGTERM", "term", "15", "SIGRTMIN+3"; CRI writes "SIGRTMINPLUS3".  0: none. */
static int signal_number(const char *s)
{
	static const struct {
		const char *name;
		int base, sign;
	} relative[] = {{"RTMINPLUS", 34, 1},
			{"RTMAXMINUS", 64, -1},
			{"RTMIN+", 34, 1},
			{"RTMAX-", 64, -1}};
	uint64_t v;

	if (str_to_u64(s, &v))
		return v <= 64 ? (int)v : 0;
	if (str_has_prefix(s, "SIGNAL_")) /* CRI's names */
		s += strlen("SIGNAL_");
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (size_t i = 0; i < ARRAY_SIZE(relative); i++) {
		size_t n = strlen(relative[i].name);

		if (strncasecmp(s, relative[i].name, n) == 0 && str_to_u64(s + n, &v) && v <= 30)
			return relative[i].base + relative[i].sign * (int)v;
	}
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (strcasecmp(s, signals[i].name) == 0)
			return signals[i].number;
	return 0;
}

int signal_to_stop(const Runtime__V1__ContainerConfig *c, const struct image_config *image)
{
	int n = 0;

	if (c->stop_signal != RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT) {
		const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
			&runtime__v1__signal__descriptor, (int)c->stop_signal);

		n = v ? signal_number(v->name) : 0;
	}
	if (!n && !str_empty(image->stop_signal))
		n = signal_number(image->stop_signal);
	return n ? n : SIGTERM;
}

Runtime__V1__Signal signal_to_cri(int number)
{
	const ProtobufCEnumDescriptor *all = &runtime__v1__signal__descriptor;

	for (unsigned i = 0; number > 0 && i < all->n_values; i++)
		if (signal_number(all->values[i].name) == number)
			return (Runtime__V1__Signal)all->values[i].value;
	return RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
}
