/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static int err_vset(struct err *e, int errnum, enum grpc_code code, const char *fmt, va_list ap)
{
	char msg[ERR_MSG_MAX]; /* `ap` may quote the message that is there */

	if (e) {
		str_vformat(msg, sizeof(msg), fmt, ap);
		e->errnum = errnum;
		e->code = code;
		strcpy(e->msg, msg);
	}
	return errnum;
}

int err_set(struct err *e, int errnum, enum grpc_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(e, errnum, code, fmt, ap);
	va_end(ap);
	return errnum;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!e)
		return errnum;
	va_start(ap, fmt);
	err_vset(e, errnum, err_code_of_errno(errnum), fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(-errnum));
	return errnum;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char head[ERR_MSG_MAX];
	va_list ap;
	size_t n, m;

	if (!e)
		return -EIO;
	va_start(ap, fmt);
	n = str_vformat(head, sizeof(head), fmt, ap);
	va_end(ap);
	m = strlen(e->msg);
	if (n + 2 >= sizeof(e->msg))
		n = sizeof(e->msg) - 3;
	if (m > sizeof(e->msg) - n - 3)
		m = sizeof(e->msg) - n - 3;
	memmove(e->msg + n + 2, e->msg, m);
	memcpy(e->msg, head, n);
	memcpy(e->msg + n, ": ", 2);
	e->msg[n + 2 + m] = '\0';
	return e->errnum;
}

#define ERR_SHORTHAND(name, errnum, code)                                                          \
	int name(struct err *e, const char *fmt, ...)                                              \
	{                                                                                          \
		va_list ap;                                                                        \
                                                                                                   \
		va_start(ap, fmt);                                                                 \
		err_vset(e, errnum, code, fmt, ap);                                                \
		va_end(ap);                                                                        \
		return errnum;                                                                     \
	}

ERR_SHORTHAND(err_invalid, -EINVAL, GRPC_INVALID_ARGUMENT)
ERR_SHORTHAND(err_not_found, -ENOENT, GRPC_NOT_FOUND)
ERR_SHORTHAND(err_precondition, -EBUSY, GRPC_FAILED_PRECONDITION)

enum grpc_code err_code_of_errno(int errnum)
{
	switch (-errnum) {
	case 0:
		return GRPC_OK;
	case ENOENT:
	case ESRCH:
		return GRPC_NOT_FOUND;
	case EINVAL:
	case ENAMETOOLONG:
		return GRPC_INVALID_ARGUMENT;
	case EEXIST:
		return GRPC_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
		return GRPC_PERMISSION_DENIED;
	case ENOMEM:
	case ENOSPC:
	case EMFILE:
	case ENFILE:
	case EDQUOT:
		return GRPC_RESOURCE_EXHAUSTED;
	case ETIMEDOUT:
		return GRPC_DEADLINE_EXCEEDED;
	case ECANCELED:
		return GRPC_CANCELLED;
	case EOPNOTSUPP:
	case ENOSYS:
		return GRPC_UNIMPLEMENTED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_INTERNAL;
	}
}

const char *err_code_name(enum grpc_code code)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	if ((unsigned)code >= sizeof(names) / sizeof(names[0]))
		return "UNKNOWN";
	return names[code];
}
