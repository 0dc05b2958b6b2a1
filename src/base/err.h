/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors that reach the person.
 *
 * A function that can fail for a reason somebody has to read takes a `struct err *`
 * as its last parameter and returns a negative errno.  The struct carries the gRPC
 * code that the RPC layer will answer with and one sentence: what was tried, on which
 * object, and the cause.  It lives on the caller's stack; failing allocates nothing.
 * Library code fills it in and never logs; the RPC layer logs once.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

/* gRPC status codes (grpc/doc/statuscodes.md), numbers as on the wire. */
enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

#define ERR_MSG_MAX 1024 /* bytes of a message, NUL included; longer ones are cut */

struct err {
	int errnum;	     /* negative errno, 0: no error */
	enum grpc_code code; /* what the client is told */
	char msg[ERR_MSG_MAX];
};

#define ERR_NULL ((struct err){0})

/*
 * Fills in `e` (may be NULL) and returns `errnum` (negative), so that
 * `return err_set(e, -EINVAL, GRPC_INVALID_ARGUMENT, "...")` is one line.
 * The message has no trailing newline or full stop.
 */
int err_set(struct err *e, int errnum, enum grpc_code code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* As err_set() with the code that belongs to `errnum`; appends ": strerror". */
int err_errno(struct err *e, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before the message that is there, keeps code and errno, returns the errno. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* INVALID_ARGUMENT, -EINVAL. */
int err_invalid(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* NOT_FOUND, -ENOENT. */
int err_not_found(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* FAILED_PRECONDITION, -EBUSY. */
int err_precondition(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The gRPC code that a bare negative errno stands for (ENOENT: NOT_FOUND, ...). */
enum grpc_code err_code_of_errno(int errnum);

/* "NOT_FOUND" and so on; "UNKNOWN" for a number that is none.  static */
const char *err_code_name(enum grpc_code code);
