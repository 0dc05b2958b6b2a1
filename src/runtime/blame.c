/* SPDX-License-Identifier: Apache-2.0 */
/* Whose fault a failed call is: see blame.h. */
#include "runtime/blame.h"

#include "base/mem.h"
#include "base/str.h"

/* What the words of crun, runc, youki and runsc have in common; the first that occurs counts. */
static const struct {
	const char *words;
	enum runtime_blame whose;
} known[] = {
	/* A limit that is too low kills the runtime's own child. */
	{"OOM", RUNTIME_BLAME_CONTAINER},
	{"memory limit", RUNTIME_BLAME_CONTAINER},
	{"executing hook", RUNTIME_BLAME_CONTAINER},
	{"running hook", RUNTIME_BLAME_CONTAINER},
	/* Its environment. */
	{"cgroups in hybrid mode", RUNTIME_BLAME_RUNTIME},
	{"cgroup feature is required", RUNTIME_BLAME_RUNTIME}, /* youki without v1 */
	{"no cgroup mount found", RUNTIME_BLAME_RUNTIME},
	{"Failed to connect to bus", RUNTIME_BLAME_RUNTIME},
	{"dial unix /run/systemd", RUNTIME_BLAME_RUNTIME},
	{"error while loading shared libraries", RUNTIME_BLAME_RUNTIME},
	{"unrecognized option", RUNTIME_BLAME_RUNTIME},
	{"flag provided but not defined", RUNTIME_BLAME_RUNTIME},
	{"panicked at", RUNTIME_BLAME_RUNTIME},
	{"fatal error: ", RUNTIME_BLAME_RUNTIME},
	{"internal error", RUNTIME_BLAME_ELSEWHERE},
	/* Its child died, or a part of it; of what is not known. */
	{"sync socket", RUNTIME_BLAME_ELSEWHERE},
	{"'s PID from pipe: EOF", RUNTIME_BLAME_ELSEWHERE},
	{"waiting for init preliminary setup", RUNTIME_BLAME_ELSEWHERE},
	{"/proc/self/fd: no such file", RUNTIME_BLAME_ELSEWHERE},
	/* It is not made for that. */
	{"unknown version specified", RUNTIME_BLAME_ELSEWHERE},
	{"not yet supported", RUNTIME_BLAME_ELSEWHERE},
	{"not supported", RUNTIME_BLAME_ELSEWHERE},
	{"unsupported", RUNTIME_BLAME_ELSEWHERE},
	{"not implemented", RUNTIME_BLAME_ELSEWHERE},
	{"is not enabled", RUNTIME_BLAME_ELSEWHERE},
	{"invalid namespace type", RUNTIME_BLAME_ELSEWHERE},
	{"\" \"\"} does not exist", RUNTIME_BLAME_ELSEWHERE}, /* runc: a kind of namespace */
	{"invalid seccomp action", RUNTIME_BLAME_ELSEWHERE},
	{"is not a valid action for seccomp", RUNTIME_BLAME_ELSEWHERE},
	{"is not a valid arch for seccomp", RUNTIME_BLAME_ELSEWHERE},
	{"seccomp unknown architecture", RUNTIME_BLAME_ELSEWHERE},
	{"unknown seccomp option", RUNTIME_BLAME_ELSEWHERE},
	{"AppArmor is not initialized", RUNTIME_BLAME_ELSEWHERE},
	{"invalid rlimit", RUNTIME_BLAME_ELSEWHERE},
	{"wrong rlimit value", RUNTIME_BLAME_ELSEWHERE},
};

/* Words of its own state directory: it cannot keep its records. */
static bool about_root(const struct runtime_end *end)
{
	return !str_empty(end->root) && end->said && strstr(end->said, end->root);
}

enum runtime_blame runtime_blame_of(const struct runtime_end *end)
{
	if (end->timed_out || str_empty(end->said) || about_root(end))
		return RUNTIME_BLAME_RUNTIME;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcasestr(end->said, known[i].words))
			return known[i].whose;
	return RUNTIME_BLAME_CONTAINER;
}

int runtime_blame_errno(enum runtime_blame b, int otherwise)
{
	return b == RUNTIME_BLAME_RUNTIME     ? -RUNTIME_ERRNO_ITSELF
	       : b == RUNTIME_BLAME_ELSEWHERE ? -RUNTIME_ERRNO_ELSEWHERE
					      : otherwise;
}

enum runtime_blame runtime_blame_of_errno(int errnum)
{
	return errnum == -RUNTIME_ERRNO_ITSELF	    ? RUNTIME_BLAME_RUNTIME
	       : errnum == -RUNTIME_ERRNO_ELSEWHERE ? RUNTIME_BLAME_ELSEWHERE
						    : RUNTIME_BLAME_CONTAINER;
}

const char *runtime_blame_name(enum runtime_blame b)
{
	static const char *const names[] = {"container", "elsewhere", "runtime"};

	return names[b];
}
